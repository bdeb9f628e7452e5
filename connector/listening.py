"""From a Dataverse event to changes. An event is a hint about a row: whose row it is matters, its values do not."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from connector.bus.change import TABLES, Change, ChangeError, Subject
from connector.dataverse import DataverseClient, Get, Update
from connector.dataverse.context import ContextError, ExecutionContext, Reference, parse
from connector.logs import about
from connector.rows.choices import AdjustmentStatus
from connector.rows.log import resumed, unreadable_write

_log = logging.getLogger("loyalty.events")
_SUBJECTS = {table: subject for subject, table in TABLES.items()}
_LOG = "loy_integrationlog"
# Of the programme: nothing is decided when they change, but they are looked at.
TERMS = frozenset({"loy_program", "loy_earnrule", "loy_tier"})
# The lookup that names the customer, by subject.
_CUSTOMER = {Subject.INVOICE: "customerid", Subject.REDEMPTION: "loy_customerid", Subject.ADJUSTMENT: "loy_customerid"}


class Listener:
    """Hears Dataverse's events. Returns only when the changes are on their queue, or the event is in the log."""

    def __init__(
        self,
        client: DataverseClient,
        send: Callable[[Sequence[Change]], None],
        clock: Callable[[], datetime],
        terms_edited: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._send = send
        self._clock = clock
        self._terms_edited = terms_edited

    def hear(self, body: bytes, *, trimmed: bool = False, queue: str = "", again: bool = False) -> list[Change]:
        """The changes that an event led to; none when nobody needs to look, or the message could not be read.

        `again`: it was a dead letter; the log waits to hear of it, even if there is nothing to do any more.
        """
        try:
            context = parse(body, max_size_exceeded=trimmed)
            changes = self._changes(context)
        except (ContextError, ChangeError) as error:
            text = body.decode("utf-8", "replace")
            self._client.commit([unreadable_write(text, queue=queue, error=str(error), now=self._clock())])
            return []
        if context.table in TERMS:
            self._terms_edited()
        if again:
            changes = [change.model_copy(update={"resumed": True}) for change in changes]
        self._send(changes)
        for change in changes:
            with about(correlation_id=change.correlation_id, change=change.id, record=f"{change.table}:{change.row}"):
                _log.info("heard: %s", change.cause)
        return changes

    def read(self, body: bytes, *, trimmed: bool = False) -> list[Change]:
        """The changes that an event leads to; nothing is sent. ContextError or ChangeError names what cannot be read."""
        return self._changes(parse(body, max_size_exceeded=trimmed))

    def _changes(self, context: ExecutionContext) -> list[Change]:
        if context.table in TERMS:
            return []
        match context.table:
            case "loy_integrationlog":
                return self._resumed(context)
            case "invoicedetail":
                return self._line_changed(context)
            case _:
                return _changes(context)

    def _line_changed(self, context: ExecutionContext) -> list[Change]:
        """A line says which invoice must be looked at; whose it is, the invoice says."""
        images = (context.post or {}, context.target, context.pre or {})
        invoice = next((found for image in images if isinstance(found := image.get("invoiceid"), Reference)), None)
        if invoice is None:
            (row,) = self._client.read(Get(f"invoicedetails({context.record_id})?$select=_invoiceid_value"))
            if not row or not row["_invoiceid_value"]:
                return []
            invoice = Reference("invoice", row["_invoiceid_value"])
        cause = f"line {context.operation_id}"
        return [Change.about(Subject.INVOICE, invoice.id, None, cause=cause, correlation_id=context.correlation_id)]

    def _resumed(self, context: ExecutionContext) -> list[Change]:
        """Somebody set *Resume* or *Check* on a log row."""
        path = f"{_LOG}s({context.record_id})"
        (row,) = self._client.read(Get(f"{path}?$select=loy_resume,loy_check,loy_change"))
        if not row or not (row["loy_resume"] or row["loy_check"]):
            return []
        if change := resumed(row):
            return [change]
        self._client.commit([Update(path, {"loy_resume": False, "loy_check": False})])
        return []


def _changes(context: ExecutionContext) -> list[Change]:
    if context.table in ("account", "contact"):
        return [_merged(context)]
    subject = _SUBJECTS.get(context.table)
    if subject not in _CUSTOMER:
        raise ContextError("PrimaryEntityName", f"no change follows from {context.table}")
    if subject is Subject.ADJUSTMENT and context.message_name == "Update" and not _approved(context):
        return []
    return [
        Change.about(
            subject,
            context.record_id,
            customer,
            cause=f"{context.message_name} {context.operation_id}",
            correlation_id=context.correlation_id,
        )
        for customer in sorted(_customers(context, _CUSTOMER[subject]), key=str)
    ]


def _approved(context: ExecutionContext) -> bool:
    """Whether an adjustment's status may have become Approved. Our own answers change it too, and need no look."""
    return bool(context.target.get("loy_status", AdjustmentStatus.APPROVED) == AdjustmentStatus.APPROVED)


def _merged(context: ExecutionContext) -> Change:
    """The customer itself changed: they may have been merged into another."""
    return Change.about(
        Subject.CUSTOMER,
        context.record_id,
        f"{context.table}:{context.record_id}",
        cause=f"{context.message_name} {context.operation_id}",
        correlation_id=context.correlation_id,
    )


def _customers(context: ExecutionContext, lookup: str) -> set[str | None]:
    """Whose row it is and was. None where the event does not tell: then the row is asked."""
    after = next((image for image in (context.post, context.target) if image and lookup in image), {})
    before = context.pre or {}
    found = {_key(image.get(lookup)) for image in (before, after)} - {None}
    nobodys_now = context.message_name == "Update" and context.post is not None and not _key(after.get(lookup))
    return found | {None} if nobodys_now or not found else found


def _key(value: object) -> str | None:
    return (
        f"{value.table}:{value.id}" if isinstance(value, Reference) and value.table in ("account", "contact") else None
    )
