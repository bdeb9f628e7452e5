"""Which changes to look at again: for an event, an invoice, a customer or a day. Only chooses; decides and sends nothing.

Changes that are made here share a correlation id, which follows from `cause`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from connector.bus import Change, ChangeError, Subject
from connector.bus.change import TABLES
from connector.dataverse import DataverseClient
from connector.dataverse.odata import guid, moment, text
from connector.identity import Customer, derived_id
from connector.loyalty.ledger import Kind
from connector.rows import wishes
from connector.rows.choices import KIND
from connector.rows.log import PARKED
from connector.rows.values import Row

_PAGE = 500


def of_event(client: DataverseClient, event_id: str) -> Iterator[Change]:
    """The changes in the log with this correlation id, or of the log row with this id. ValueError unless it is an id."""
    found = guid(event_id)
    path = f"loy_integrationlogs?$select=loy_change&$filter=loy_correlationid eq {text(found)} or loy_integrationlogid eq {found}"
    for _, change in _logged(client, path):
        if change:
            yield change.model_copy(update={"resumed": True})


def of_invoice(invoice_id: str, cause: str) -> Iterator[Change]:
    """Whoever has or should have points of the invoice, and their later invoices. ValueError unless it is an id."""
    change = Change.about(Subject.INVOICE, guid(invoice_id), None, cause=cause, correlation_id=derived_id(cause))
    yield change.model_copy(update={"resumed": True})


def of_customer(client: DataverseClient, customer: Customer, cause: str) -> Iterator[Change]:
    """Every invoice of a customer, oldest first, what waits, what the ledger holds of invoices no more theirs, and a review."""

    def about(subject: Subject, row_id: str, *, resumed: bool = False) -> Change:
        change = Change.about(subject, row_id, str(customer), cause=cause, correlation_id=derived_id(cause))
        return change.model_copy(update={"resumed": resumed})

    theirs = f"_customerid_value eq {customer.id}"
    seen: set[str] = set()
    for row in _rows(client, f"invoices?$select=invoiceid&$filter={theirs}&$orderby=createdon"):
        # The first makes all later ones be looked at with the tier that was held before them.
        yield about(Subject.INVOICE, row["invoiceid"], resumed=not seen)
        seen.add(row["invoiceid"])
    earned = f"_loy_membershipid_value eq {customer.membership_id} and loy_kind eq {KIND[Kind.EARN]}"
    for row in _rows(client, f"loy_entries?$select=loy_cause&$filter={earned}"):
        invoice = row["loy_cause"].removeprefix("invoice:")
        if invoice not in seen:
            seen.add(invoice)
            yield about(Subject.INVOICE, invoice)
    for subject in wishes.OPEN:
        waiting = f"_loy_customerid_value eq {customer.id} and {wishes.waits(subject)}"
        for row in _rows(client, f"{TABLES[subject]}s?$select=loy_status&$filter={waiting}&$orderby=createdon"):
            yield about(subject, row[f"{TABLES[subject]}id"])
    yield about(Subject.CUSTOMER, customer.id)
    yield about(Subject.REVIEW, customer.membership_id)


def of_day(client: DataverseClient, day: date, cause: str) -> Iterator[Change]:
    """Invoices created or last changed on a day (UTC), and redemptions and adjustments of that day that still wait."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)

    def within(column: str) -> str:
        return f"({column} ge {moment(first)} and {column} lt {moment(first + timedelta(days=1))})"

    path = f"invoices?$select=invoiceid&$filter={within('createdon')} or {within('modifiedon')}&$orderby=createdon"
    for row in _rows(client, path):
        yield Change.about(Subject.INVOICE, row["invoiceid"], None, cause=cause, correlation_id=derived_id(cause))
    for subject in wishes.OPEN:
        waiting = f"{within('createdon')} and {wishes.waits(subject)}"
        for row in _rows(client, f"{TABLES[subject]}s?$select=loy_status&$filter={waiting}&$orderby=createdon"):
            row_id = row[f"{TABLES[subject]}id"]
            yield Change.about(subject, row_id, None, cause=cause, correlation_id=derived_id(cause))


def parked(
    client: DataverseClient, now: datetime, *, log: str = "", reason: str = ""
) -> Iterator[tuple[Row, Change | None]]:
    """Parked log rows, oldest first, with the change that Resume sends; None where the message could not be read.

    All that were parked until `now`, or the one with the id `log`, or those of a reason class.
    """
    condition = PARKED
    if log:
        condition += f" and loy_integrationlogid eq {guid(log)}"
    else:
        # What is parked again meanwhile becomes the youngest, and would come again for as long as its cause lasts.
        condition += f" and loy_occurredon le {moment(now.replace(microsecond=0))}"
    if reason:
        condition += f" and loy_reasonclass eq {text(reason)}"
    columns = "loy_name,loy_reasonclass,loy_field,loy_nextstep,loy_change"
    path = f"loy_integrationlogs?$select={columns}&$filter={condition}&$orderby=loy_occurredon,createdon"
    for row, change in _logged(client, path):
        yield row, change and change.model_copy(update={"resumed": True})


def _logged(client: DataverseClient, path: str) -> Iterator[tuple[Row, Change | None]]:
    for row in _rows(client, path):
        try:
            yield row, Change.parse(row["loy_change"] or "")
        except ChangeError:
            yield row, None


def _rows(client: DataverseClient, path: str) -> Iterable[Any]:
    for page in client.pages(path, max_page_size=_PAGE):
        yield from page
