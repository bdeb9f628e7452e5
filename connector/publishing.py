"""Looks at a programme's rows after people edited them: writes on each row what is wrong with it, publishes sound terms.

The doctor asks the same questions without writing.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from connector.dataverse import DataverseClient, Update
from connector.loyalty.contradictions import contradictions
from connector.loyalty.ledger import Kind
from connector.loyalty.program import EarnRule, SpendableOn
from connector.loyalty.versions import Published, Terms, differences, first_day
from connector.rows import choices, programs
from connector.rows.programs import Reading
from connector.rows.values import Row, Unusable, integer

_CURRENCY = re.compile(r"[A-Z]{3}")
_CODE = re.compile(r"[A-Z0-9]{1,20}")
_LONGEST = 4000


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with some rows (path of each, such as `loy_tiers(<id>)`). `severe`: terms are not published with it."""

    says: str
    rows: tuple[str, ...]
    severe: bool = False


class Publisher:
    """`clock` tells aware UTC time."""

    def __init__(self, client: DataverseClient, code: str, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._code = code
        self._clock = clock

    def look(self) -> Published | None:
        """Bring the rows' *Problem* up to date, and publish terms that were edited and are sound. Twice does no harm.

        Answers with the version that was published. A programme that never decided anything has no version yet: its first one
        is published when it is needed.
        """
        try:
            reading = programs.read(self._client, self._code)
        except Unusable:
            return None  # there is no row to write on; whoever needs the programme says so
        found = list(problems(reading))
        self._write(reading, found)
        if any(problem.severe for problem in found) or not reading.versions:
            return None
        if not (changes := "\n".join(edits(reading))):
            return None
        return programs.publish(self._client, reading, first_day(self._clock()), changes)

    def _write(self, reading: Reading, found: list[Problem]) -> None:
        wanted: dict[str, list[str]] = defaultdict(list)
        for problem in found:
            for path in problem.rows:
                wanted[path].append(problem.says)
        for path, row in _rows(reading):
            text = "\n".join(says[:1].upper() + says[1:] + "." for says in wanted[path])[:_LONGEST] or None
            if text != (row.get("loy_problem") or None):
                self._client.commit([Update(path, {"loy_problem": text})])


def problems(reading: Reading) -> Iterator[Problem]:
    """Everything that is wrong with a programme's rows as they are now, whether published or not."""
    program = _path("loy_program", reading.program)
    yield from _settings(program, reading.program)
    terms, incomplete = _readable(reading)
    yield from incomplete
    if incomplete or not terms.tiers or not terms.rules:
        return
    paths = {rule.version: _path("loy_earnrule", row) for row in reading.rules for rule in [programs.rule_of(row)]}
    for found in contradictions(terms):
        rows = tuple(paths[row.version] if isinstance(row, EarnRule) else f"loy_tiers({row.id})" for row in found.rows)
        yield Problem(found.says, rows, found.severe)


def edits(reading: Reading) -> Iterator[str]:
    """What was edited since the last version, in sentences."""
    if reading.versions:
        yield from differences(reading.versions[-1].terms, reading.draft())


def _readable(reading: Reading) -> tuple[Terms, list[Problem]]:
    incomplete = []
    for table, rows, read in (
        ("loy_earnrule", reading.rules, programs.rule_of),
        ("loy_tier", reading.tiers, programs.tier_of),
    ):
        for row in rows:
            try:
                read(row)
            except Unusable as error:
                incomplete.append(Problem(f"the column {error.field} is empty", (_path(table, row),), severe=True))
    return (Terms((), ()) if incomplete else reading.draft()), incomplete


def _settings(path: str, row: Row) -> Iterator[Problem]:
    if not _CODE.fullmatch(row["loy_code"] or ""):
        says = "the code must be 1 to 20 capital letters and digits; the setting LOYALTY_PROGRAM takes no other"
        yield Problem(says, (path,))
    spendable_on = choices.SPENDABLE_ON.get(row["loy_spendableon"])
    if spendable_on is SpendableOn.DAYS_AFTER_PAYMENT and not integer(row, "loy_spendabledays"):
        yield Problem("points become spendable some days after payment, yet the number of days is 0", (path,))
    for currency in _parts(row.get("loy_currencies")):
        if not _CURRENCY.fullmatch(currency):
            # Severe: invoices of the days that it would be in force on could not earn, not even after it was mended.
            yield Problem(f"{currency[:20]!r} is no ISO code of a currency", (path,), severe=True)
    kinds = {kind.value for kind in Kind}
    for kind in _parts(row.get("loy_noticekinds")):
        if kind not in kinds:
            yield Problem(f"{kind[:20]!r} is no kind of entry: {', '.join(sorted(kinds))}", (path,))


def _parts(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def _rows(reading: Reading) -> Iterator[tuple[str, Row]]:
    yield _path("loy_program", reading.program), reading.program
    yield from ((_path("loy_earnrule", row), row) for row in reading.rules)
    yield from ((_path("loy_tier", row), row) for row in reading.tiers)


def _path(table: str, row: Row) -> str:
    return f"{table}s({row[f'{table}id']})"
