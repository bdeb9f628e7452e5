"""The usual connector: GETs and single writes with `requests`, a balance guarded by If-Match, retries where they are due.

Written plainly and fairly: one pooled session a thread, only the columns it needs, the retry of urllib3 for throttling and
outages, a look whether the event was handled before, a unique key on what it appends. It keeps the same columns on membership,
account and redemption as we do, and leaves out the integration log.
"""

import secrets
import threading
from datetime import UTC, datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from connector.bus import Change, Subject
from connector.dataverse import ClientSecretTokens
from connector.identity import Customer, derived_id
from connector.loyalty.ledger import Kind
from connector.rows.choices import KIND, RedemptionStatus
from connector.settings import Settings

_PAID = 2
_ATTEMPTS = 10
_RETRY = Retry(
    total=6, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, other=6, read=6
)


class Naive:
    """`handle` from many threads."""

    def __init__(self, settings: Settings) -> None:
        url = settings.dataverse_url.rstrip("/")
        self._root = f"{url}/api/data/v9.2/"
        self._ca_file = settings.dataverse_ca_file
        self._tokens = ClientSecretTokens(
            settings.dataverse_tenant_id,
            settings.dataverse_client_id,
            settings.dataverse_client_secret,
            url,
            settings.dataverse_authority,
            settings.dataverse_ca_file,
        )
        self._local = threading.local()

    def handle(self, change: Change) -> None:
        customer = Customer.parse(change.customer or "")
        if change.subject is Subject.INVOICE:
            self._invoice(change.row, customer)
        else:
            self._redemption(change.row, customer)

    def _invoice(self, invoice_id: str, customer: Customer) -> None:
        cause = f"invoice:{invoice_id}"
        invoice = self._get(f"invoices({invoice_id})?$select=statecode,totalamount_base,totaltax_base")
        entries = self._get(f"loy_entries?$select=loy_points&$filter=loy_cause eq '{cause}'")["value"]
        due = int(invoice["totalamount_base"] - (invoice["totaltax_base"] or 0)) if invoice["statecode"] == _PAID else 0
        points = due - sum(entry["loy_points"] for entry in entries)
        if points:
            self._book(customer, cause, f"{cause}:{len(entries)}", Kind.EARN if points > 0 else Kind.TAKEBACK, points)

    def _redemption(self, redemption_id: str, customer: Customer) -> None:
        row = self._get(f"loy_redemptions({redemption_id})?$select=loy_status,loy_points")
        if row["loy_status"] != RedemptionStatus.REQUESTED:
            return
        cause = f"redemption:{redemption_id}"
        balance = self._book(customer, cause, cause, Kind.REDEEM, -row["loy_points"])
        answer = {"loy_status": RedemptionStatus.COMPLETED.value, "loy_decidedon": _now(), "loy_balanceafter": balance}
        answer["loy_transactioncode"] = secrets.token_hex(8).upper()
        if balance is None:
            answer = {
                "loy_status": RedemptionStatus.REJECTED.value,
                "loy_decidedon": _now(),
                "loy_reasoncode": "points",
            }
        self._write("PATCH", f"loy_redemptions({redemption_id})", answer)

    def _book(self, customer: Customer, cause: str, key: str, kind: Kind, points: int) -> int | None:
        """The balance afterwards; None when there are not enough points to redeem."""
        path = f"loy_memberships({customer.membership_id})"
        for _ in range(_ATTEMPTS):
            member = self._get(f"{path}?$select=loy_balance,loy_sequence")
            balance, sequence = member["loy_balance"] + points, member["loy_sequence"] + 1
            if kind is Kind.REDEEM and balance < 0:
                return None
            columns = {"loy_balance": balance, "loy_sequence": sequence}
            answer = self._write("PATCH", path, columns, {"If-Match": member["@odata.etag"]})
            if answer.status_code != 412:
                break
        else:
            raise RuntimeError(f"{path}: somebody else was always faster")
        entry = {
            "loy_entryid": derived_id("entry", key),
            "loy_name": f"{kind.value} {points:+}",
            "loy_MembershipId@odata.bind": f"/{path}",
            "loy_sequence": sequence,
            "loy_idempotencykey": key,
            "loy_kind": KIND[kind],
            "loy_points": points,
            "loy_cause": cause,
            "loy_occurredon": _now(),
        }
        self._write("POST", "loy_entries", entry)  # 412: the key is taken, so it was written before
        self._write("PATCH", f"accounts({customer.id})", {"loy_pointsbalance": balance})
        return int(balance)

    def _get(self, path: str) -> Any:
        answer = self._session.get(self._root + path, headers=self._headers(), timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _write(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> requests.Response:
        answer = self._session.request(
            method, self._root + path, json=body, headers=self._headers() | (headers or {}), timeout=60
        )
        if answer.status_code != 412:
            answer.raise_for_status()
        return answer

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens.token()}", "Accept": "application/json"}

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.verify = self._ca_file or True
            session.mount("https://", HTTPAdapter(max_retries=_RETRY))
        return session


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
