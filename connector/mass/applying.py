"""Writes what was decided about the customers of a page, a thousand rows a call, or fewer where Dataverse is slow.

Entries first: the unique sequence is what protects a customer who redeems in the same second. Then the copies, the membership
last: until it is written the customer is still due, so whoever repeats the page after a crash meets the entries and only
writes the copies. A copy may overwrite that of somebody who was faster; entries beyond ours give it away, and it is written
anew from the ledger. An account whose rating changes is written together with its membership, and only as it was read: what
somebody sets by hand stays, and what we have set is known to be ours.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from connector.dataverse import (
    Conflict,
    DataverseClient,
    DataverseError,
    Forbidden,
    Get,
    NotFound,
    Terminal,
    Transient,
    Update,
    Upsert,
)
from connector.dataverse.errors import SQL_TIMEOUT
from connector.dataverse.odata import IDS, bind
from connector.loyalty.ledger import Entry, Kind, LedgerError, fold
from connector.loyalty.program import Program
from connector.mass.deciding import Decider, Member
from connector.mass.order import Order
from connector.mass.pace import Pace
from connector.mass.ratings import looked_at
from connector.processing import broken, refused
from connector.rows import customers, ledger
from connector.rows.choices import NoticeStatus
from connector.rows.copies import as_read, copies, is_rated
from connector.rows.customers import CustomerRow
from connector.rows.values import Row, Unusable

HOLD = timedelta(minutes=10)
TOO_LARGE = 413
_ROUNDS = 3  # a conflict is decided again so often with its neighbours, then apart from them
_REWRITES = 8
_RATED = 50  # members in one change set
_BEYOND = f"{ledger.ENTRY},_loy_bulkrunid_value"


@dataclass(slots=True)
class Applied:
    """How the members of a page ended."""

    written: list[Member] = field(default_factory=list)
    second_round: list[Member] = field(default_factory=list)
    failed: list[tuple[Member, Unusable]] = field(default_factory=list)
    rewritten: int = 0


class Applier:
    """`clock` tells aware UTC time; it dates the copies, decisions are of the order's own moment."""

    def __init__(
        self,
        client: DataverseClient,
        program: Program,
        order: Order,
        decider: Decider,
        run_id: str,
        pace: Pace,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._decider = decider
        self._program = program.announcing(order.notices)
        self._order = order
        self._run_id = run_id
        self._pace = pace
        self._clock = clock

    def apply(self, members: Sequence[Member]) -> Applied:
        """Write entries and copies of members whose decision has entries."""
        applied = Applied()
        if self._order.hold:
            self._hold(members, self._clock() + HOLD)
        for some in _by_entries(members, self._pace):
            self._append(some, applied)
        self.copy(applied.written, applied)
        if self._order.hold:
            self._hold([*applied.second_round, *(member for member, _ in applied.failed)], None)
        return applied

    def copy(self, members: Sequence[Member], applied: Applied) -> None:
        """Write the copies of members whose entries are in the ledger, and again where somebody else was faster."""
        now = self._clock()
        rows_of = looked_at(self._client, self._program, members, now.date())
        memberships: list[tuple[Member, Row]] = []
        mirrors: dict[str, list[tuple[Member, Row]]] = {"account": [], "contact": []}
        rated: list[tuple[Member, list[Update | Upsert]]] = []
        for member in members:
            alone = CustomerRow(member.customer, "", None, None) if member.alive else None
            membership, facts = rows_of.get(member.id, (member.membership, alone))
            row, columns = copies(self._program, membership, member.state, facts, now, rates=member.id in rows_of)
            row |= self._released()
            if facts and is_rated(row, columns):
                rated.append((member, as_read(membership, row, facts, columns)))
                continue
            memberships.append((member, row | {"loy_membershipid": member.id}))
            if member.alive:
                table = member.customer.table
                mirrors[table].append((member, columns | {f"{table}id": member.customer.id}))
        for some in batched(rated, _RATED, strict=False):
            self._write(some, self._together, applied)
        for table, rows in mirrors.items():
            self._update(f"{table}s", table, rows, applied)
        # Whose account refuses is still due: the next run comes back.
        lost = {member for member, _ in applied.failed}
        memberships = [(member, row) for member, row in memberships if member not in lost]
        self._update("loy_memberships", "loy_membership", memberships, applied)
        copied = (member for member in members if member not in lost)
        for member in self.beyond(copied, lambda member: member.state.sequence):
            self._rewritten(member, applied)

    def beyond(
        self, members: Iterable[Member], known: Callable[[Member], int]
    ) -> dict[Member, list[tuple[Entry, bool]]]:
        """Entries after those known, in ledger order, of the members that have some; and whether this run wrote them."""
        found: dict[str, list[tuple[Entry, bool]]] = defaultdict(list)
        by_id = {member.id: member for member in members}
        gets = []
        for some in batched(by_id.values(), IDS, strict=False):
            conditions = " or ".join(
                f"(_loy_membershipid_value eq {member.id} and loy_sequence gt {known(member)})" for member in some
            )
            gets.append(Get(f"loy_entries?$select={_BEYOND}&$filter={conditions}&$orderby=loy_sequence"))
        for rows in self._client.read(*gets):
            for row in rows:
                member = by_id[row["_loy_membershipid_value"]]
                entry = ledger.entry_of(member.customer, row)
                found[member.id].append((entry, row["_loy_bulkrunid_value"] == self._run_id))
        return {by_id[row_id]: entries for row_id, entries in found.items()}

    def rewrite(self, member: Member) -> None:
        """Copies anew from the ledger, unless somebody writes them at this moment."""
        customer = member.customer
        gets = Get(ledger.membership_path(customer)), Get(customers.customer_path(customer))
        for _ in range(_REWRITES):
            row, found = self._client.read(*gets)
            if row is None:
                return
            fresh = replace(member, membership=ledger.membership_of(customer, row))
            entries = self.beyond([fresh], lambda fresh: fresh.membership.state.sequence).get(fresh, [])
            state = fold((entry for entry, _ in entries), fresh.membership.state)
            facts = customers.living(customer, found)
            written, shown = copies(self._program, fresh.membership, state, facts, self._clock())
            writes = as_read(fresh.membership, written | self._released(), facts, shown)
            try:
                self._client.commit(writes)
            except Conflict:
                continue
            except NotFound:
                return
            return

    def _rewritten(self, member: Member, applied: Applied) -> None:
        try:
            self.rewrite(member)
            applied.rewritten += 1
        except LedgerError as error:
            applied.failed.append((member, broken(error)))

    def _released(self) -> dict[str, Any]:
        return {"loy_heldby": None, "loy_helduntil": None} if self._order.hold else {}

    def _append(self, members: Sequence[Member], applied: Applied) -> None:
        """Create the entries; whoever has others in their place is decided again, and what cannot be written is isolated."""
        members = list(members)
        for _ in range(_ROUNDS):
            rows = [self._entry_row(entry) for member in members for entry in member.decision.entries]
            try:
                if rows:
                    with self._pace.call():
                        self._client.create_multiple("loy_entries", "loy_entry", rows, divisible=True)
            except Conflict:
                members = self._caught_up(members, applied)
                continue
            except Forbidden:
                raise
            except (Terminal, Transient) as error:
                self._divide(error, members)
                if len(members) == 1 and isinstance(error, Terminal):
                    applied.failed.append((members[0], refused(error)))
                else:
                    self._halves(members, applied)
                return
            applied.written += members
            return
        if len(members) == 1:
            applied.second_round += members
        elif members:
            self._halves(members, applied)

    def _divide(self, error: DataverseError, what: Sequence[Any]) -> None:
        """Raises what smaller calls would not help against; where they would, the next ones are smaller."""
        if error.status == TOO_LARGE or (error.code == SQL_TIMEOUT and len(what) > 1):
            self._pace.smaller()
        elif isinstance(error, Transient):
            raise error

    def _halves(self, members: list[Member], applied: Applied) -> None:
        middle = len(members) // 2
        self._append(members[:middle], applied)
        self._append(members[middle:], applied)

    def _caught_up(self, members: list[Member], applied: Applied) -> list[Member]:
        for member, beyond in self.beyond(members, lambda member: member.base.sequence).items():
            own = [entry for entry, ours in beyond if ours]
            member.own += own
            member.conflicts += len(own) < len(beyond)
            try:
                self._decider.again(member, (entry for entry, _ in beyond))
            except LedgerError as error:
                applied.failed.append((member, broken(error)))
        lost = {member.id for member, _ in applied.failed}
        return [member for member in members if member.id not in lost]

    def _entry_row(self, entry: Entry) -> dict[str, Any]:
        row = ledger.entry_row(self._program, entry)
        row["loy_BulkRunId@odata.bind"] = bind("loy_bulkruns", self._run_id)
        if row["loy_noticestatus"] == NoticeStatus.WAITING:
            row["loy_noticestatus"] = NoticeStatus.RUN.value
        return row

    def _update(self, entity_set: str, table: str, rows: Sequence[tuple[Member, Row]], applied: Applied) -> None:
        def change(some: list[Row]) -> None:
            self._client.update_multiple(entity_set, table, some, divisible=True)

        left = rows
        while left:
            size = self._pace.rows
            self._write(left[:size], change, applied)
            left = left[size:]

    def _together(self, some: list[list[Update | Upsert]]) -> None:
        self._client.commit([write for writes in some for write in writes])

    def _write[W](self, what: Sequence[tuple[Member, W]], change: Callable[[list[W]], None], applied: Applied) -> None:
        """One call for all; a member whose part is refused is found by halving, and the neighbours do not suffer."""
        try:
            with self._pace.call():
                change([part for _, part in what])
        except Forbidden:
            raise
        except (Terminal, Transient) as error:
            self._divide(error, what)
            member, middle = what[0][0], len(what) // 2
            if middle:
                self._write(what[:middle], change, applied)
                self._write(what[middle:], change, applied)
            elif isinstance(error, Conflict):
                self._rewritten(member, applied)
            elif isinstance(error, Terminal):
                applied.failed.append((member, refused(error)))
            else:
                raise

    def _hold(self, members: Sequence[Member], until: datetime | None) -> None:
        by = f"{self._order.name} {self._run_id}"[:200] if until else None
        rows = [{"loy_membershipid": member.id, "loy_heldby": by, "loy_helduntil": until} for member in members]
        self._update("loy_memberships", "loy_membership", list(zip(members, rows, strict=True)), Applied())


def cancelled(entries: Iterable[Entry]) -> int:
    """Points that some entries cancel, above zero."""
    return -sum(entry.points for entry in entries if entry.kind is Kind.EXPIRE)


def _by_entries(members: Sequence[Member], pace: Pace) -> Iterator[list[Member]]:
    """Members in turn, as many as have a call's worth of entries; the entries of one member stay together."""
    some: list[Member] = []
    size = 0
    for member in members:
        entries = len(member.decision.entries)
        if some and size + entries > pace.rows:
            yield some
            some, size = [], 0
        some.append(member)
        size += entries
    if some:
        yield some
