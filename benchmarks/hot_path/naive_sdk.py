"""The same usual connector on Microsoft's `PowerPlatform-Dataverse-Client` (requirements-bench.txt), with its public calls.

The client retries lost connections, not throttling; its `update` always overwrites (If-Match: *), so nothing guards the balance
but the session of the customer.
"""

import os
import secrets
from datetime import UTC, datetime
from typing import Any

from connector.bus import Change, Subject
from connector.identity import Customer, derived_id
from connector.loyalty.ledger import Kind
from connector.rows.choices import KIND, RedemptionStatus
from connector.settings import Settings

_PAID = 2


class NaiveSdk:
    """`handle` from many threads. The client and its credential are shared, as its documentation shows."""

    def __init__(self, settings: Settings) -> None:
        if settings.dataverse_ca_file:
            os.environ["REQUESTS_CA_BUNDLE"] = settings.dataverse_ca_file  # it has no setting of its own
        from azure.identity import ClientSecretCredential
        from PowerPlatform.Dataverse.client import DataverseClient
        from PowerPlatform.Dataverse.core.errors import HttpError

        self._refused = HttpError
        credential = ClientSecretCredential(
            settings.dataverse_tenant_id,
            settings.dataverse_client_id,
            settings.dataverse_client_secret,
            authority=settings.dataverse_authority,
            disable_instance_discovery=True,
        )
        client = DataverseClient(settings.dataverse_url.rstrip("/"), credential)
        self._client = client.__enter__()  # for its connection pool; it lives as long as the process

    def handle(self, change: Change) -> None:
        customer = Customer.parse(change.customer or "")
        if change.subject is Subject.INVOICE:
            self._invoice(change.row, customer)
        else:
            self._redemption(change.row, customer)

    def _invoice(self, invoice_id: str, customer: Customer) -> None:
        records, cause = self._client.records, f"invoice:{invoice_id}"
        invoice = records.retrieve("invoice", invoice_id, select=["statecode", "totalamount_base", "totaltax_base"])
        assert invoice is not None
        entries = list(records.list("loy_entry", select=["loy_points"], filter=f"loy_cause eq '{cause}'"))
        due = int(invoice["totalamount_base"] - (invoice["totaltax_base"] or 0)) if invoice["statecode"] == _PAID else 0
        points = due - sum(entry["loy_points"] for entry in entries)
        if points:
            self._book(customer, cause, f"{cause}:{len(entries)}", Kind.EARN if points > 0 else Kind.TAKEBACK, points)

    def _redemption(self, redemption_id: str, customer: Customer) -> None:
        row = self._client.records.retrieve("loy_redemption", redemption_id, select=["loy_status", "loy_points"])
        assert row is not None
        if row["loy_status"] != RedemptionStatus.REQUESTED:
            return
        cause = f"redemption:{redemption_id}"
        balance = self._book(customer, cause, cause, Kind.REDEEM, -row["loy_points"])
        answer: dict[str, Any] = {"loy_decidedon": _now()}
        if balance is None:
            answer |= {"loy_status": RedemptionStatus.REJECTED.value, "loy_reasoncode": "points"}
        else:
            answer |= {"loy_status": RedemptionStatus.COMPLETED.value, "loy_balanceafter": balance}
            answer["loy_transactioncode"] = secrets.token_hex(8).upper()
        self._client.records.update("loy_redemption", redemption_id, answer)

    def _book(self, customer: Customer, cause: str, key: str, kind: Kind, points: int) -> int | None:
        """The balance afterwards; None when there are not enough points to redeem."""
        records, member_id = self._client.records, customer.membership_id
        member = records.retrieve("loy_membership", member_id, select=["loy_balance", "loy_sequence"])
        assert member is not None
        balance, sequence = member["loy_balance"] + points, member["loy_sequence"] + 1
        if kind is Kind.REDEEM and balance < 0:
            return None
        records.update("loy_membership", member_id, {"loy_balance": balance, "loy_sequence": sequence})
        entry = {
            "loy_entryid": derived_id("entry", key),
            "loy_name": f"{kind.value} {points:+}",
            "loy_MembershipId@odata.bind": f"/loy_memberships({member_id})",
            "loy_sequence": sequence,
            "loy_idempotencykey": key,
            "loy_kind": KIND[kind],
            "loy_points": points,
            "loy_cause": cause,
            "loy_occurredon": _now(),
        }
        try:
            records.create("loy_entry", entry)
        except self._refused as error:
            if error.status_code != 412:  # the key is taken, so it was written before
                raise
        records.update("account", customer.id, {"loy_pointsbalance": balance})
        return int(balance)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
