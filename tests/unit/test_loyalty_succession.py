"""What goes over when a customer was merged into another."""

from datetime import UTC, date, datetime

import pytest

from connector.loyalty.ledger import Journal, Kind, Movements, State, fold
from connector.loyalty.succession import hand_over

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
EARLY, LATE = date(2026, 8, 31), date(2027, 1, 31)
GIVER = "account:00000000-0000-0000-0000-000000000001"
HEIR = "account:00000000-0000-0000-0000-000000000002"


def journal(customer: str, **moved: object) -> Journal:
    book = Journal(customer, State())
    if moved:
        movements = Movements(**moved)  # type: ignore[arg-type]
        book.append(Kind.ADJUST, movements, cause="c", key=customer, occurred_on=NOW, explanation={})
    return book


def over(giver: Journal, heir: Journal, credited: dict[date, int] | None = None) -> int:
    return hand_over(giver, heir, NOW, tier="BASE", since=date(2020, 2, 3), credited=credited)


def test_lots_go_over_with_their_expiry_and_pending_points_stay() -> None:
    giver = journal(GIVER, lots={EARLY: 30, LATE: 50}, pending={"invoice:1": 20})
    heir = journal(HEIR, lots={LATE: 7})
    assert over(giver, heir) == 80
    assert (giver.state.lots, giver.state.total) == ({}, 20)
    assert heir.state.lots == {EARLY: 30, LATE: 57}
    out, gained = giver.entries[-1], heir.entries[-1]
    assert (out.kind, out.points, gained.kind, gained.points) == (Kind.ADJUST, -80, Kind.ADJUST, 80)
    assert out.key == f"merge:{GIVER[8:]}:{HEIR[8:]}:1:out"
    assert gained.key == f"merge:{GIVER[8:]}:{HEIR[8:]}:1:in"
    assert out.cause == gained.cause == f"merge:{GIVER[8:]}"
    assert (fold(giver.entries), fold(heir.entries)) == (giver.state, heir.state)


@pytest.mark.parametrize(
    ("credited", "left"),
    [({EARLY: 40}, {LATE: 60}), ({LATE: 40}, {EARLY: 40, LATE: 20}), (None, {EARLY: 40, LATE: 20})],
)
def test_a_debt_is_taken_from_the_points_it_was_made_for(
    credited: dict[date, int] | None, left: dict[date, int]
) -> None:
    giver, heir = journal(GIVER, owed=40), journal(HEIR, lots={EARLY: 40, LATE: 60}, pending={"invoice:1": 20})
    assert over(giver, heir, credited) == -40
    assert giver.state.owed == 0
    assert heir.state.lots == left
    assert heir.state.pending_points == 20


def test_a_debt_that_the_heir_cannot_pay_is_owed_by_them() -> None:
    giver, heir = journal(GIVER, owed=40), journal(HEIR, lots={EARLY: 30})
    over(giver, heir)
    assert (heir.state.lots, heir.state.owed, giver.state.total) == ({}, 10, 0)


def test_points_that_go_over_repay_the_heirs_debt_and_begin_an_empty_ledger() -> None:
    owing = journal(HEIR, owed=40)
    over(journal(GIVER, lots={EARLY: 30, LATE: 50}), owing)
    assert (owing.state.lots, owing.state.owed) == ({LATE: 40}, 0)
    new = journal(HEIR)
    over(journal(GIVER, lots={EARLY: 30}), new)
    assert (new.state.tier, new.state.since) == ("BASE", date(2020, 2, 3))


def test_nothing_goes_over_twice() -> None:
    giver, heir = journal(GIVER, lots={EARLY: 30}), journal(HEIR)
    over(giver, heir)
    assert over(giver, heir) == 0
    assert (len(giver.entries), len(heir.entries)) == (2, 1)
