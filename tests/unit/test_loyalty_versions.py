"""Versions of a programme's terms: the past keeps what it had, whatever is edited."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.loyalty.program import Accrual, EarnRule, Program, Rounding, SpendableOn, Tier, Window
from connector.loyalty.versions import (
    Published,
    Terms,
    accrual_in_force,
    differences,
    first_day,
    rules_in_force,
    tiers_in_force,
)

BASE = Tier("BASE", "Base", 0, id="1")
GOLD = Tier("GOLD", "Gold", 1, Decimal("1.25"), minimum_spend=Decimal(1000), id="2", window=Window.CALENDAR_YEAR)
RULE = EarnRule(1, date(2000, 1, 1), Decimal(1), frozenset({"gift card"}))
NEXT = EarnRule(2, date(2026, 1, 1), Decimal(2))
TERMS = Terms((RULE,), (BASE, GOLD))
JUNE = date(2026, 6, 1)
SHORT = Accrual(lifetime_months=1, rounding=Rounding.DAY)


def program(*versions: Published) -> Program:
    history = tiers_in_force(versions)
    accruals = accrual_in_force(versions)
    return Program("P", rules_in_force(versions), history[-1][1], tier_history=history, accrual_history=accruals)


def versions(*terms: tuple[date, Terms]) -> list[Published]:
    first, *more = terms
    return [Published(1, date.min, first[1])] + [
        Published(2 + index, begins, each) for index, (begins, each) in enumerate(more)
    ]


def rate(found: Program, day: date) -> Decimal | None:
    rule = found.rule_on(day)
    return rule.points_per_unit if rule else None


def test_terms_survive_their_text() -> None:
    accrual = replace(SHORT, spendable_on=SpendableOn.ISSUE, currencies=frozenset({"EUR", "CHF"}))
    dated = replace(
        TERMS, accrual=accrual, rules=(RULE, NEXT), tiers=(BASE, replace(GOLD, valid_from=JUNE, rating_code=7))
    )
    assert Terms.from_json(dated.to_json()) == dated


def test_a_rate_edited_in_place_counts_from_its_day_and_is_named_apart() -> None:
    edited = replace(TERMS, rules=(replace(RULE, points_per_unit=Decimal(3)),))
    found = program(*versions((date.min, TERMS), (JUNE, edited)))
    assert [rate(found, JUNE - timedelta(days=1)), rate(found, JUNE)] == [Decimal(1), Decimal(3)]
    assert [rule.name for rule in found.rules] == ["1", "1.2"]
    sale = found.rule_named("1")
    assert sale is not None
    assert sale.points_per_unit == Decimal(1)


def test_a_rate_edited_with_a_later_day_counts_from_then_and_the_old_one_until_then() -> None:
    autumn = date(2026, 9, 1)
    edited = replace(TERMS, rules=(replace(RULE, points_per_unit=Decimal(3), valid_from=autumn),))
    found = program(*versions((date.min, TERMS), (JUNE, edited)))
    assert [rate(found, day) for day in (date(1999, 12, 31), JUNE, autumn - timedelta(days=1), autumn)] == [
        None,
        Decimal(1),
        Decimal(1),
        Decimal(3),
    ]


def test_an_old_rule_edited_does_not_come_back_into_force() -> None:
    two = replace(TERMS, rules=(RULE, NEXT))
    edited = replace(two, rules=(replace(RULE, points_per_unit=Decimal(9)), NEXT))
    found = program(*versions((date.min, two), (JUNE, edited)))
    assert [rate(found, day) for day in (date(2025, 12, 31), date(2026, 1, 1), JUNE)] == [Decimal(1), 2, 2]


def test_a_rule_of_the_past_counts_forward_only() -> None:
    late = replace(TERMS, rules=(RULE, NEXT))
    found = program(*versions((date.min, TERMS), (JUNE, late)))
    assert [rate(found, date(2026, 2, 1)), rate(found, JUNE)] == [Decimal(1), Decimal(2)]
    assert [rule.name for rule in found.rules] == ["1", "2"]


def test_a_version_edited_again_before_its_day_never_was() -> None:
    wrong = replace(TERMS, rules=(replace(RULE, points_per_unit=Decimal(1000)),))
    right = replace(TERMS, rules=(replace(RULE, points_per_unit=Decimal(2)),))
    found = program(*versions((date.min, TERMS), (JUNE, wrong), (JUNE, right)))
    assert {rule.points_per_unit for rule in found.rules} == {Decimal(1), Decimal(2)}


def test_tiers_keep_their_conditions_on_days_that_are_past() -> None:
    dearer = replace(TERMS, tiers=(BASE, replace(GOLD, minimum_spend=Decimal(2000))))
    found = program(*versions((date.min, TERMS), (JUNE, dearer)))
    before, after = found.tier("GOLD", JUNE - timedelta(days=1)), found.tier("GOLD", JUNE)
    assert (before.minimum_spend, after.minimum_spend) == (Decimal(1000), Decimal(2000))


def test_settings_keep_to_the_days_they_were_in_force_on() -> None:
    edited = replace(TERMS, accrual=SHORT)
    found = program(*versions((date.min, TERMS), (JUNE, replace(edited, accrual=Accrual())), (JUNE, edited)))
    days = (JUNE - timedelta(days=1), JUNE)
    assert [found.accrual_on(day).lifetime_months for day in days] == [24, 1]
    assert [found.expiry(day) for day in days] == [date(2028, 5, 31), date(2026, 7, 1)]


def test_versions_without_settings_have_those_of_a_new_programme() -> None:
    assert Terms.from_json('{"rules":[],"tiers":[]}').accrual == Accrual()


def test_a_tier_may_change_on_a_day_of_its_own_and_a_deleted_one_goes_with_its_version() -> None:
    july = date(2026, 7, 1)
    later = replace(TERMS, tiers=(BASE, replace(GOLD, multiplier=Decimal(2), valid_from=july)))
    found = program(*versions((date.min, TERMS), (JUNE, later), (date(2026, 8, 1), replace(TERMS, tiers=(BASE,)))))
    multipliers = [found.tier("GOLD", day).multiplier for day in (JUNE, july, date(2026, 8, 1))]
    assert multipliers == [Decimal("1.25"), Decimal(2), Decimal(1)]
    assert [len(found.tiers_on(day)) for day in (JUNE, july, date(2026, 8, 1))] == [2, 2, 1]


@pytest.mark.parametrize(
    ("at", "begins"),
    [("2026-05-31T12:00", JUNE), ("2026-05-31T23:54", JUNE), ("2026-05-31T23:56", JUNE + timedelta(days=1))],
)
def test_every_process_knows_a_version_before_it_begins(at: str, begins: date) -> None:
    assert first_day(datetime.fromisoformat(at).replace(tzinfo=UTC)) == begins


def test_what_changed_is_told() -> None:
    after = Terms(
        (replace(RULE, points_per_unit=Decimal("2.50"), excluded_categories=frozenset()), NEXT),
        (replace(BASE, name="Basic"),),
        replace(SHORT, currencies=frozenset({"EUR"})),
    )
    assert list(differences(TERMS, after)) == [
        "earn rule 1: points per unit 1 -> 2.5",
        "earn rule 1: excluded categories gift card -> none",
        "earn rule 2 is new",
        "tier BASE: name Base -> Basic",
        "tier GOLD was deleted",
        "programme: lifetime months 24 -> 1",
        "programme: rounding month -> day",
        "programme: currencies none -> EUR",
    ]
    assert list(differences(TERMS, TERMS)) == []


DAYS = st.dates(date(2026, 1, 1), date(2026, 12, 31))
RULES = st.builds(EarnRule, st.integers(1, 3), DAYS, st.decimals(0, 9, places=1))
TIERS = st.builds(Tier, st.sampled_from("XYZ"), st.just("T"), st.integers(1, 3), valid_from=st.none() | DAYS).map(
    lambda tier: replace(tier, valid_from=tier.valid_from or date.min)
)
ACCRUALS = st.builds(Accrual, lifetime_months=st.integers(0, 3), spendable_on=st.sampled_from(SpendableOn))
ALL_TERMS = st.builds(
    Terms,
    st.lists(RULES, min_size=1, max_size=3, unique_by=lambda rule: rule.version).map(tuple),
    st.lists(TIERS, max_size=3, unique_by=lambda tier: tier.code).map(lambda tiers: (BASE, *tiers)),
    ACCRUALS,
)


@given(ALL_TERMS, st.lists(st.tuples(DAYS, ALL_TERMS), max_size=4), DAYS, ALL_TERMS)
def test_no_edit_changes_a_day_before_it_begins(
    first: Terms, more: list[tuple[date, Terms]], begins: date, edit: Terms
) -> None:
    published = versions((date.min, first), *sorted(more, key=lambda each: each[0]))
    begins = max([begins, *(each.begins for each in published)])
    before = program(*published)
    after = program(*published, Published(len(published) + 1, begins, edit))
    day = date(2025, 12, 31)
    while day < begins:
        assert before.rule_on(day) == after.rule_on(day)
        assert before.tiers_on(day) == after.tiers_on(day)
        assert before.accrual_on(day) == after.accrual_on(day)
        assert before.expiry(day) == after.expiry(day)
        day += timedelta(days=1)
    # What an entry of such a day names is what it was.
    for rule in before.rules:
        if rule.valid_from < begins:
            assert after.rule_named(rule.name) == rule
