"""The people of the proof: they find their invoices, and press the button again without doing a thing twice."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.chaos.facts import Invoice, Version
from benchmarks.chaos.shelves import Shelves
from benchmarks.chaos.steadfast import Steadfast
from connector.dataverse import Create, Delete, DuplicateRecord, NotFound, Transient, Update

AT = datetime(2026, 3, 2, tzinfo=UTC)


def invoice(number: int, customer: str, status: str) -> Invoice:
    return Invoice(str(number), AT, [Version(AT, customer, status, ())])


def test_shelves_know_what_a_look_at_everything_would_find() -> None:
    chance = random.Random(1)
    shelves, everything = Shelves(), [invoice(n, "anna", "issued") for n in range(30)]
    for one in everything:
        shelves.put(one)
    for _ in range(500):
        one = chance.choice(everything)
        customer, status = chance.choice(("anna", "ben")), chance.choice(("issued", "paid", "cancelled", "deleted"))
        one.versions.append(Version(AT, customer, status, ()))
        shelves.put(one)
        for name in ("anna", "ben"):
            known = {i.id for i in everything if i.now.customer == name and i.now.status != "deleted"}
            assert {i.id for i in shelves.of(name)} == known
        for statuses in (("issued",), ("paid", "cancelled")):
            found = shelves.any(chance, *statuses)
            assert (found is None) == (not any(i.now.status in statuses for i in everything))
            assert found is None or found.now.status in statuses


class Shaky:
    """A Dynamics that does what it is told and loses its first answer."""

    def __init__(self, second: Exception | None) -> None:
        self._answers: list[Exception | None] = [Transient("the answer was lost"), second]
        self.calls = 0

    def commit(self, writes: Any) -> None:
        self.calls += 1
        if error := self._answers.pop(0):
            raise error


@pytest.mark.parametrize(
    ("write", "second"),
    [
        (Create("accounts", {"accountid": "1"}), DuplicateRecord("it is there")),
        (Delete("accounts(1)"), NotFound("it is gone")),
        (Update("accounts(1)", {"name": "Adatum"}), None),
    ],
)
def test_what_was_done_without_an_answer_is_not_done_twice(
    write: Any, second: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.chaos.steadfast.time.sleep", lambda seconds: None)
    dynamics = Shaky(second)
    Steadfast(dynamics).commit([write])  # type: ignore[arg-type]
    assert dynamics.calls == 2


def test_what_cannot_be_done_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.chaos.steadfast.time.sleep", lambda seconds: None)
    with pytest.raises(NotFound):
        Steadfast(Shaky(NotFound("no such row"))).commit([Update("accounts(1)", {"name": "Adatum"})])  # type: ignore[arg-type]
