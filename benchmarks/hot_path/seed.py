"""Puts a recording's rows into Dataverse: customers with a valid ledger, invoices and redemptions. No step hears of it."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import batched
from typing import Any

import requests

from benchmarks.hot_path.stream import Kind, Names, Recording, Row, past_amount
from connector.dataverse import Create, DataverseClient, TokenProvider, Update, batch
from connector.dataverse.odata import Part, bind
from connector.dataverse.transport import API
from connector.loyalty.decisions import Decision
from connector.loyalty.earning import Invoice, Line, Status
from connector.loyalty.invoices import decide_invoice
from connector.loyalty.ledger import Entry, State
from connector.loyalty.program import Program
from connector.rows import customers, ledger
from connector.rows.choices import RedemptionStatus, RedemptionType
from connector.rows.ledger import Membership

_QUIET = {"MSCRM.BypassCustomPluginExecution": "true"}
_CHUNK = 500


class Planter:
    """`url` and `ca_file` are the environment's."""

    def __init__(self, url: str, ca_file: str, tokens: TokenProvider, client: DataverseClient) -> None:
        self._url = url
        self._tokens = tokens
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file
        self._client = client

    def plant(self, program: Program, recording: Recording, names: Names, now: datetime) -> None:
        accounts, memberships, entries = [], [], []
        for number in recording.touched:
            customer = names.customer(number)
            state, written = _history(program, names, number, recording.history, now)
            mirrored = customers.mirror(program, state, now)
            accounts.append({"accountid": customer.id, "name": f"Customer {number}"} | mirrored)
            row = ledger.membership_row(program, Membership(customer, State()), state, f"Customer {number}", now)
            memberships.append({"loy_membershipid": customer.membership_id} | row)
            entries += [ledger.entry_row(program, entry) for entry in written]
        self._many("accounts", "account", accounts)
        self._many("loy_memberships", "loy_membership", memberships)
        self._many("loy_entries", "loy_entry", entries)
        self._writes(part for row in recording.rows for part in _row(names, row))

    def _many(self, entity_set: str, table: str, rows: Sequence[dict[str, Any]]) -> None:
        kind = {"@odata.type": f"Microsoft.Dynamics.CRM.{table}"}
        for chunk in batched(rows, _CHUNK, strict=False):
            path = f"{entity_set}/Microsoft.Dynamics.CRM.CreateMultiple"
            self._client.request("POST", path, {"Targets": [kind | row for row in chunk]}, _QUIET, timeout=120)

    def _writes(self, parts: Iterable[Part]) -> None:
        for chunk in batched(parts, _CHUNK, strict=False):
            boundary = f"batch_{secrets.token_hex(8)}"
            answer = self._session.post(
                f"{self._url}{API}$batch",
                data=batch.build(chunk, API, boundary).encode(),
                headers={
                    "Authorization": f"Bearer {self._tokens.token()}",
                    "Content-Type": batch.content_type(boundary),
                },
                timeout=120,
            )
            answer.raise_for_status()
            replies = batch.parse(answer.headers["Content-Type"], answer.content)
            bad = [reply for reply in replies if isinstance(reply, list) or reply.status >= 300]
            if bad or len(replies) != len(chunk):
                raise SystemExit(f"hot_path: a row could not be made: {bad[:1]}")


def _history(
    program: Program, names: Names, number: int, length: int, now: datetime
) -> tuple[State, tuple[Entry, ...]]:
    """A ledger of paid invoices from before today."""
    customer, state = names.customer(number), State()
    entries: list[Entry] = []
    for place in range(length):
        on = now - timedelta(days=200, minutes=-place)
        net = Decimal(past_amount(number, place))
        invoice = Invoice(
            id=names.past_invoice(number, place),
            number=f"H{place}",
            customer=str(customer),
            status=Status.PAID,
            invoiced_on=on,
            net=net,
            lines=(Line("1", "", net),),
            paid_on=on.date(),
        )
        decision = decide_invoice(program, str(customer), state, invoice, invoice.document, (), on)
        assert isinstance(decision, Decision)
        state = decision.state
        entries += decision.entries
    return state, tuple(entries)


def _row(names: Names, row: Row) -> Iterator[Part]:
    """The writes that make a row as it is when the event comes."""
    customer, row_id = names.customer(row.customer), names.row(row)
    if row.kind is Kind.REDEEM:
        yield _quiet(
            Create(
                "loy_redemptions",
                {
                    "loy_redemptionid": row_id,
                    "loy_requestid": row_id,
                    "loy_name": f"Redeem {row.amount}",
                    "loy_type": RedemptionType.REDEEM.value,
                    "loy_status": RedemptionStatus.REQUESTED.value,
                    "loy_points": row.amount,
                    "loy_CustomerId_account@odata.bind": bind("accounts", customer.id),
                },
            ).part()
        )
        return
    line = {
        "isproductoverridden": True,
        "ispriceoverridden": True,
        "productdescription": "thing",
        "quantity": 1,
        "priceperunit": row.amount,
        "lineitemnumber": 1,
    }
    columns = {
        "invoiceid": row_id,
        "name": f"Invoice {row.number}",
        "invoice_details": [line],
        "customerid_account@odata.bind": bind("accounts", customer.id),
    }
    yield _quiet(Create("invoices", columns).part())
    state = {"statecode": 2, "statuscode": 100001} if row.kind is Kind.PAID else {"statecode": 3, "statuscode": 100003}
    yield _quiet(Update(f"invoices({row_id})", state).part())


def _quiet(part: Part) -> Part:
    return part._replace(headers=(*part.headers, *_QUIET.items()))


def utc_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
