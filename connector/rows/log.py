"""The integration log: one row a change, in plain sentences, with what Resume needs."""

from datetime import datetime
from typing import Any

from connector.bus.change import Change
from connector.dataverse import Upsert
from connector.identity import derived_id
from connector.loyalty.decisions import Decision, Outcome
from connector.rows.choices import OUTCOME


def log_path(change_id: str) -> str:
    return f"loy_integrationlogs({derived_id('log', change_id)})"


def log_write(change: Change, decision: Decision, *, attempt: int, duration: float, now: datetime) -> Upsert:
    """The log row of a change. A later hint that finds nothing to do does not overwrite what was done."""
    return Upsert(
        log_path(change.id),
        {
            "loy_name": decision.message[:400],
            "loy_outcome": OUTCOME[decision.outcome],
            "loy_operation": change.subject.value,
            "loy_reasonclass": decision.reason or None,
            "loy_field": decision.field or None,
            "loy_message": decision.message[:4000],
            "loy_nextstep": decision.next_step[:400] or None,
            "loy_customerkey": change.customer,
            "loy_recordtable": change.table,
            "loy_recordid": change.row,
            "loy_correlationid": change.correlation_id or None,
            "loy_points": decision.points,
            "loy_attempt": attempt,
            "loy_durationms": int(duration * 1000),
            "loy_change": change.model_dump_json(exclude_defaults=True),
            "loy_resume": False,
            "loy_occurredon": now.replace(microsecond=0),
        },
        only_if_new=decision.outcome is Outcome.NOTHING and not change.resumed,
    )


def unreadable_write(body: str, *, queue: str, error: str, now: datetime) -> Upsert:
    """The log row of a message that could not be read. The same message again is the same row."""
    row: dict[str, Any] = {
        "loy_name": f"A message on {queue} could not be read: {error}"[:400],
        "loy_outcome": OUTCOME[Outcome.PARKED],
        "loy_operation": "message",
        "loy_reasonclass": "unreadable",
        "loy_field": error.partition(":")[0][:100],
        "loy_message": f"A message on {queue} could not be read: {error}"[:4000],
        "loy_nextstep": "Find out who sends to the queue; send a correct message.",
        "loy_change": body[:100_000],
        "loy_occurredon": now.replace(microsecond=0),
    }
    return Upsert(log_path(derived_id("unreadable", queue, body)), row)


def report_write(
    operation: str, message: str, *, did_something: bool, now: datetime, correlation_id: str = ""
) -> Upsert:
    """The log row of a run over many changes, in one sentence; they carry its correlation id."""
    outcome = Outcome.APPLIED if did_something else Outcome.NOTHING
    row = {
        "loy_name": message[:400],
        "loy_outcome": OUTCOME[outcome],
        "loy_operation": operation,
        "loy_message": message[:4000],
        "loy_correlationid": correlation_id or None,
        "loy_occurredon": now.replace(microsecond=0),
    }
    return Upsert(log_path(derived_id(operation, now.isoformat())), row)
