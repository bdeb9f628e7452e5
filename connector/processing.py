"""One change of one customer: load, decide, commit. All that the session queue's trigger does."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from connector.bus.change import Change, Subject
from connector.cases.adjustment import adjustment_case, ownerless_adjustment_case
from connector.cases.case import Case, Request
from connector.cases.invoice import invoice_case, ownerless_invoice_case, unusable
from connector.cases.redemption import ownerless_redemption_case, redemption_case
from connector.cases.review import review_case
from connector.cases.succession import customer_case
from connector.dataverse import BadRequest, Conflict, Forbidden, NotFound, Terminal, Transient
from connector.identity import Customer
from connector.loyalty.decisions import Decision, Outcome, nothing
from connector.loyalty.ledger import LedgerError, State
from connector.loyalty.program import Program
from connector.loyalty.sentences import say
from connector.rows.preview import ledger_preview
from connector.rows.programs import Programs
from connector.rows.values import Unusable
from connector.store import Commit, Posting, Store
from connector.tracing import span

# A customer's session makes conflicts rare; a mass job or a lost lock may cause one or two.
MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be decided about a change if it came now."""

    change: Change
    decision: Decision
    before: State
    also: Posting | None = None


class Processor:
    """Applies changes. Safe to call from many threads, and twice for the same change.

    `send` puts further changes on the queue; `clock` tells aware UTC time.
    """

    def __init__(
        self, store: Store, programs: Programs, send: Callable[[Sequence[Change]], None], clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._programs = programs
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()
        self.conflicts = 0
        """How often somebody else was faster since the process began."""

    def process(self, change: Change, delivery: int = 1) -> Decision:
        """Decide and commit a change. Whatever it raises, the message should come again: nothing was done by halves."""
        if change.check:
            return self._check(change)
        started = time.monotonic()
        behind, refusal = False, None
        for attempt in range(MAX_ATTEMPTS):
            program, case = self._decided(change, behind, attempt, refusal)
            if case.decision.outcome is Outcome.REJECTED and case.membership and not behind:
                # Nobody is told no before we know that the membership is not behind its ledger.
                behind = True
                continue
            try:
                work = Commit(
                    change=change,
                    program=program,
                    membership=case.membership,
                    customer=case.customer,
                    decision=case.decision,
                    answers=case.answers,
                    also=case.also,
                    attempt=delivery,
                    duration=time.monotonic() - started,
                )
                with span("commit", correlation_id=change.correlation_id, entries=len(case.decision.entries)):
                    self._store.commit(work)
            except (BadRequest, Forbidden) as error:
                if case.decision.outcome is Outcome.PARKED:
                    raise
                refusal = error
                continue
            except (Conflict, NotFound):
                if case.decision.outcome is not Outcome.NOTHING or case.answers:
                    with self._lock:
                        self.conflicts += 1
                    behind = True
                    continue
                # The log row of what was done before stays as it is.
            further = [change.forwarded(customer) for customer in case.forward]
            if case.decision.unfinished:
                further.append(change.model_copy(update={"resumed": True}))
            self._send(further)
            return case.decision
        raise Transient(f"{change.subject} {change.row}: still in conflict after {MAX_ATTEMPTS} attempts")

    def preview(self, change: Change) -> list[Preview]:
        """What `process` would decide now, for the change's customer and all it would be passed on to. Writes nothing."""
        previews, waiting, seen = [], [change], set[str]()
        while waiting:
            looked_at = waiting.pop(0)
            if looked_at.session in seen:
                continue
            seen.add(looked_at.session)
            _, case = self._decided(looked_at, behind=False, attempt=0, refusal=None)
            if case.decision.outcome is not Outcome.NOTHING and case.membership:
                # The membership may be behind its ledger: then it only seems that there is something to do.
                _, case = self._decided(looked_at, behind=True, attempt=0, refusal=None)
            before = case.membership.state if case.membership else State()
            previews.append(Preview(looked_at, case.decision, before, case.also))
            waiting += [looked_at.forwarded(customer) for customer in case.forward]
        return previews

    def _check(self, change: Change) -> Decision:
        """Somebody asks what Resume would do: the answer goes on the log row, and nothing else is written."""
        previews = self.preview(change.model_copy(update={"check": False}))
        today = self._clock().date()
        self._store.write_preview(change.id, [part for found in previews for part in _previewed(found, today)])
        return nothing(State(), say("checked"))

    def _decided(
        self, change: Change, behind: bool, attempt: int, refusal: Terminal | None
    ) -> tuple[Program | None, Case]:
        program = None
        try:
            if refusal:
                raise refused(refusal)
            program = self._programs.current()
            if change.mandate:
                program = program.announcing(change.mandate.notices, change.mandate.template)
            return program, self._case(Request(change, program, behind, attempt))
        except Unusable as error:
            return program, Case(unusable(error))
        except (BadRequest, Forbidden) as error:
            return program, Case(unusable(refused(error)))
        except LedgerError as error:
            return program, Case(unusable(broken(error)))

    def _case(self, request: Request) -> Case:
        change, now = request.change, self._clock()
        customer = Customer.parse(change.customer) if change.customer else None
        match change.subject, customer:
            case Subject.INVOICE, Customer():
                return invoice_case(self._store, request, customer, now)
            case Subject.INVOICE, None:
                return ownerless_invoice_case(self._store, request)
            case Subject.REDEMPTION, Customer():
                return redemption_case(self._store, request, customer, now)
            case Subject.REDEMPTION, None:
                return ownerless_redemption_case(self._store, request, now)
            case Subject.ADJUSTMENT, Customer():
                return adjustment_case(self._store, request, customer, now)
            case Subject.ADJUSTMENT, None:
                return ownerless_adjustment_case(self._store, request)
            case Subject.REVIEW, Customer():
                return review_case(self._store, request, customer, now)
            case Subject.CUSTOMER, Customer():
                return customer_case(self._store, request, customer, now)
            case _:
                raise Unusable(
                    say("customer.needed", subject=change.subject.value),
                    reason="no_customer",
                    field="customer",
                    next_step=say("next.customer_of", table=change.table),
                )


def _previewed(preview: Preview, today: date) -> Iterator[dict[str, Any]]:
    decision, also = preview.decision, preview.also
    outcome, customer = decision.outcome.value, preview.change.customer or ""
    yield ledger_preview(customer, outcome, decision.message, preview.before, decision.state, decision.entries, today)
    if also:
        heir = also.membership
        yield ledger_preview(str(heir.customer), outcome, decision.message, heir.state, also.state, also.entries, today)


def refused(error: Terminal) -> Unusable:
    """What Dataverse itself will not take or give, however often we ask."""
    if isinstance(error, Forbidden):
        return Unusable(
            say("said", text=error.message),
            reason="no_permission",
            field="security role",
            next_step=say("next.role"),
        )
    field = error.field if isinstance(error, BadRequest) else ""
    return Unusable(
        say("said", text=error.message), reason="dataverse_refused", field=field, next_step=say("next.value")
    )


def broken(error: LedgerError) -> Unusable:
    """A history that was altered: nothing is added to it before somebody has looked."""
    return Unusable(
        say("ledger.broken", law=str(error)),
        reason="ledger_broken",
        field="loy_entry",
        next_step=say("next.audit"),
    )
