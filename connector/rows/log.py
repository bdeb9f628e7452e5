"""The integration log: one row a change, in plain sentences, with what Resume needs."""

import json
from datetime import datetime
from typing import Any

from connector.bus.change import Change, ChangeError
from connector.dataverse import Upsert
from connector.dataverse.odata import printable
from connector.identity import derived_id
from connector.loyalty.decisions import Decision, Outcome
from connector.loyalty.sentences import parts_of, say
from connector.rows.choices import DEAD_LETTERED, OUTCOME
from connector.rows.values import Row

PARKED = f"loy_outcome eq {OUTCOME[Outcome.PARKED]}"  # the condition on rows that wait for a person


def log_path(change_id: str) -> str:
    return f"loy_integrationlogs({derived_id('log', change_id)})"


def log_write(change: Change, decision: Decision, *, attempt: int, duration: float, now: datetime) -> Upsert:
    """The log row of a change. A later hint that finds nothing to do does not overwrite what was done."""
    row = _row(change, decision, attempt, now) | {"loy_durationms": int(duration * 1000)}
    if change.resumed:
        row |= {"loy_check": False, "loy_preview": None}  # what would be done is done
    return Upsert(log_path(change.id), row, only_if_new=decision.outcome is Outcome.NOTHING and not change.resumed)


def dead_letter_write(change: Change, decision: Decision, *, attempt: int, now: datetime) -> Upsert:
    """The log row of a change whose every delivery failed, until it is decided after all."""
    return Upsert(log_path(change.id), _row(change, decision, attempt, now) | {"loy_outcome": DEAD_LETTERED})


def _row(change: Change, decision: Decision, attempt: int, now: datetime) -> dict[str, Any]:
    return {
        "loy_name": decision.message[:400],
        "loy_outcome": OUTCOME[decision.outcome],
        "loy_operation": change.subject.value,
        "loy_reasonclass": decision.reason or None,
        "loy_field": decision.field or None,
        "loy_message": decision.message[:4000],
        "loy_nextstep": decision.next_step[:400] or None,
        "loy_said": _said(decision.message, decision.next_step, _booked(change, decision)),
        "loy_customerkey": change.customer,
        "loy_recordtable": change.table,
        "loy_recordid": change.row,
        "loy_correlationid": change.correlation_id or None,
        "loy_points": decision.points,
        "loy_attempt": attempt,
        "loy_change": change.model_dump_json(exclude_defaults=True),
        "loy_resume": False,
        "loy_occurredon": now.replace(microsecond=0),
    }


def resumed(row: Row) -> Change | None:
    """What a row on which somebody set *Resume* or *Check* sends; None where there is nothing to send again: the row of a message
    that could not be read, or of a report."""
    try:
        change = Change.parse(row["loy_change"] or "{}")
    except ChangeError:
        return None
    return change.model_copy(update={"resumed": True, "check": not row["loy_resume"]})


def _said(message: str, next_step: str, booked: tuple[int, int] | None = None) -> str:
    """Both sentences as codes and values, for pages in another language than English; `booked` for those who trace."""
    said = {"message": parts_of(message), "next": parts_of(next_step)} | ({"booked": booked} if booked else {})
    return json.dumps(said, separators=(",", ":"))


def _booked(change: Change, decision: Decision) -> tuple[int, int] | None:
    """The first and last entry that the change appended to its customer's ledger: a cause does not always name the record."""
    places = [entry.sequence for entry in decision.entries if entry.customer == change.customer]
    return (places[0], places[-1]) if places else None


def unreadable_write(body: str, *, queue: str, error: str, now: datetime) -> Upsert:
    """The log row of a message that could not be read. The same message again is the same row."""
    message, next_step = say("message.unreadable", queue=queue, fault=error), say("next.sender")
    row: dict[str, Any] = {
        "loy_name": message[:400],
        "loy_outcome": OUTCOME[Outcome.PARKED],
        "loy_operation": "message",
        "loy_reasonclass": "unreadable",
        "loy_field": error.partition(":")[0][:100],
        "loy_message": message[:4000],
        "loy_nextstep": next_step,
        "loy_said": _said(message, next_step),
        "loy_change": printable(body[:100_000], keep="\t\r\n"),
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
