"""The floor: what the platform costs. One read and one change set with the rows that we would write, and nothing between."""

import secrets
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import requests

from connector.bus import Change, Subject
from connector.dataverse import ClientSecretTokens, Create, Get, Update, Upsert, Write, batch
from connector.dataverse.odata import Part
from connector.dataverse.transport import API
from connector.identity import Customer
from connector.rows import ledger, wishes
from connector.rows.choices import KIND, OUTCOME, NoticeStatus, RedemptionStatus
from connector.rows.invoices import invoice_path
from connector.rows.log import log_path
from connector.settings import Settings
from connector.store import document_entries_path

_LONG = "x" * 250  # as long as the state of a membership, movements and explanation of an entry, a sentence of the log


class Floor:
    """`handle` from many threads; each has a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.dataverse_url.rstrip("/")
        self._ca_file = settings.dataverse_ca_file
        self._tokens = ClientSecretTokens(
            settings.dataverse_tenant_id,
            settings.dataverse_client_id,
            settings.dataverse_client_secret,
            self._url,
            settings.dataverse_authority,
            settings.dataverse_ca_file,
        )
        self._local = threading.local()

    def handle(self, change: Change) -> None:
        customer = Customer.parse(change.customer or "")
        if change.subject is Subject.INVOICE:
            paths = [invoice_path(change.row), document_entries_path(f"invoice:{change.row}")]
        else:
            paths = [wishes.redemption_path(change.row)]
        (member, *_) = self._send([Get(path).part() for path in (ledger.membership_path(customer), *paths)])
        sequence = int(member["loy_sequence"]) + 1
        self._send([_writes(change, customer, sequence)])

    def _send(self, items: Sequence[Part | Sequence[Part]]) -> list[Any]:
        boundary = f"batch_{secrets.token_hex(8)}"
        answer = self._session.post(
            f"{self._url}{API}$batch",
            data=batch.build(items, API, boundary).encode(),
            headers={
                "Authorization": f"Bearer {self._tokens.token()}",
                "Content-Type": batch.content_type(boundary),
                "Prefer": "odata.continue-on-error",
                "Accept": "application/json",
            },
            timeout=60,
        )
        answer.raise_for_status()
        found = []
        for reply in batch.parse(answer.headers["Content-Type"], answer.content):
            for response in reply if isinstance(reply, list) else [reply]:
                if response.status >= 300:
                    raise RuntimeError(f"{response.status}: {response.body[:200]!r}")
                found.append(response.json() if response.body else None)
        return found

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.verify = self._ca_file or True
        return session


def _writes(change: Change, customer: Customer, sequence: int) -> list[Part]:
    now = datetime.now(UTC).replace(microsecond=0)
    membership = {
        "loy_sequence": sequence,
        "loy_lasthash": "0" * 64,
        "loy_balance": sequence,
        "loy_pending": 0,
        "loy_owed": 0,
        "loy_state": f'{{"floor":"{_LONG}"}}',
        "loy_spend": Decimal(1),
        "loy_nextreviewon": now.date(),
    }
    entry = {
        "loy_entryid": change.id,
        "loy_name": "earn +1",
        "loy_MembershipId@odata.bind": f"/loy_memberships({customer.membership_id})",
        "loy_sequence": sequence,
        "loy_idempotencykey": change.id,
        "loy_kind": next(iter(KIND.values())),
        "loy_points": 1,
        "loy_cause": f"{change.subject}:{change.row}",
        "loy_occurredon": now,
        "loy_spend": Decimal(1),
        "loy_ruleversion": "1",
        "loy_movements": _LONG,
        "loy_explanation": _LONG,
        "loy_previoushash": "0" * 64,
        "loy_hash": "0" * 64,
        "loy_noticestatus": NoticeStatus.NONE.value,
    }
    account = {
        "loy_pointsbalance": sequence,
        "loy_pointspending": 0,
        "loy_tiername": "Base",
        "loy_expiringpoints": 0,
        "loy_expiringon": now.date(),
        "loy_nexttierdistance": Decimal(1),
        "loy_loyaltyasof": now,
    }
    log = {
        "loy_name": _LONG[:80],
        "loy_outcome": next(iter(OUTCOME.values())),
        "loy_operation": change.subject.value,
        "loy_message": _LONG[:80],
        "loy_customerkey": change.customer,
        "loy_recordtable": change.table,
        "loy_recordid": change.row,
        "loy_points": 1,
        "loy_attempt": 1,
        "loy_durationms": 1,
        "loy_change": change.model_dump_json(exclude_defaults=True),
        "loy_resume": False,
        "loy_occurredon": now,
    }
    answer = {"loy_status": RedemptionStatus.COMPLETED.value, "loy_decidedon": now, "loy_balanceafter": sequence}
    redeemed = [Update(f"loy_redemptions({change.row})", answer)] if change.subject is Subject.REDEMPTION else []
    writes: tuple[Write, ...] = (
        Upsert(f"loy_memberships({customer.membership_id})", membership),
        Create("loy_entries", entry),
        Update(f"accounts({customer.id})", account),
        *redeemed,
        Upsert(log_path(change.id), log),
    )
    return [write.part() for write in writes]
