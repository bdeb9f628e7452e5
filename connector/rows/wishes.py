"""Redemptions, voids and adjustments: rows that people create and only the connector completes."""

from datetime import datetime
from typing import Any

from connector.bus.change import Subject
from connector.dataverse.odata import any_of, guid
from connector.loyalty.decisions import Decision, Outcome
from connector.rows import customers
from connector.rows.choices import AdjustmentStatus, RedemptionStatus

REDEMPTION = (
    "loy_requestid,loy_type,loy_points,loy_voidscode,loy_description,loy_channel,loy_status,loy_transactioncode,loy_reason,"
    "loy_reasoncode,loy_value,loy_balanceafter,loy_decidedon,createdon,_loy_customerid_value"
)
_ADJUSTMENT = (
    "loy_points,loy_reason,loy_lifetimemonths,loy_status,_loy_customerid_value,_createdby_value,_modifiedby_value"
)

OPEN: dict[Subject, tuple[int, ...]] = {
    Subject.REDEMPTION: (RedemptionStatus.REQUESTED,),
    Subject.ADJUSTMENT: (AdjustmentStatus.REQUESTED, AdjustmentStatus.APPROVED),
}
"""The statuses in which a row waits for the connector's answer."""


def waits(subject: Subject) -> str:
    """The condition that a row of this kind waits for the connector."""
    return any_of("loy_status", [str(int(status)) for status in OPEN[subject]])


def redemption_path(redemption_id: str) -> str:
    return f"loy_redemptions({guid(redemption_id)})?$select={REDEMPTION}&$expand={customers.expand('loy_CustomerId')}"


def adjustment_path(adjustment_id: str) -> str:
    return f"loy_adjustments({guid(adjustment_id)})?$select={_ADJUSTMENT}&$expand={customers.expand('loy_CustomerId')}"


def redemption_answer(decision: Decision, now: datetime) -> dict[str, Any]:
    """What the connector writes on a redemption or void when it has decided."""
    result = decision.result
    completed = decision.outcome is Outcome.APPLIED
    row: dict[str, Any] = {
        "loy_status": (RedemptionStatus.COMPLETED if completed else RedemptionStatus.REJECTED).value,
        "loy_decidedon": now.replace(microsecond=0),
        "loy_reason": None if completed else decision.message,
        "loy_reasoncode": None if completed else decision.reason,
    }
    if result:
        row["loy_balanceafter"] = result.balance
    if not completed:
        row |= {"loy_transactioncode": None, "loy_value": None}  # whoever made the row may have written something there
    if result and completed:
        row |= {"loy_transactioncode": result.code, "loy_value": result.value, "loy_points": result.points}
    return row


def adjustment_answer(decision: Decision, now: datetime) -> dict[str, Any]:
    completed = decision.outcome is Outcome.APPLIED
    return {
        "loy_status": (AdjustmentStatus.COMPLETED if completed else AdjustmentStatus.REJECTED).value,
        "loy_decidedon": now.replace(microsecond=0),
        "loy_message": decision.message,
    }


def adjustment_waits(message: str) -> dict[str, Any]:
    """What the connector writes on an adjustment that a second person must approve."""
    return {"loy_status": AdjustmentStatus.AWAITING_APPROVAL.value, "loy_message": message}
