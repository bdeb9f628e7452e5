"""Rows that are right one by one and wrong together."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from connector.loyalty.contradictions import contradictions
from connector.loyalty.program import EarnRule, Tier, Window
from connector.loyalty.versions import Terms

BASE = Tier("BASE", "Base", 0)
GOLD = Tier("GOLD", "Gold", 1, minimum_tenure_months=60, minimum_spend=Decimal(3_000_000), rating_code=1)
PLATINUM = Tier("PLATINUM", "Platinum", 2, minimum_tenure_months=60, minimum_spend=Decimal(5_000_000), rating_code=2)
FIRST, SECOND = EarnRule(1, date(2000, 1, 1), Decimal(1)), EarnRule(2, date(2026, 1, 1), Decimal(2))
TERMS = Terms((FIRST, SECOND), (BASE, GOLD, PLATINUM))


def test_sound_terms_have_no_contradiction() -> None:
    assert list(contradictions(TERMS)) == []


@pytest.mark.parametrize(
    ("terms", "kind", "says", "severe"),
    [
        (
            replace(TERMS, tiers=(replace(BASE, minimum_spend=Decimal(1)), GOLD)),
            "lowest_has_conditions",
            "tier BASE is the lowest",
            False,
        ),
        (
            replace(TERMS, tiers=(BASE, GOLD, replace(PLATINUM, rank=1))),
            "same_rank",
            "tiers GOLD and PLATINUM have the same rank 1",
            True,
        ),
        (
            replace(TERMS, tiers=(BASE, GOLD, replace(PLATINUM, minimum_spend=Decimal(10)))),
            "never_held",
            "nobody will ever hold tier GOLD: tier PLATINUM above it asks for no more",
            False,
        ),
        (
            replace(TERMS, tiers=(BASE, GOLD, replace(PLATINUM, rating_code=1))),
            "same_rating",
            "tiers GOLD and PLATINUM write the same account rating 1",
            False,
        ),
        (
            replace(TERMS, rules=(FIRST, replace(FIRST, version=2))),
            "same_day",
            "earn rules 1 and 2 both begin on 2000-01-01",
            True,
        ),
        (
            replace(TERMS, rules=(replace(FIRST, version=3), SECOND)),
            "against_time",
            "earn rule 2 begins after version 3",
            False,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_rows_that_contradict_each_other_are_named(terms: Terms, kind: str, says: str, severe: bool) -> None:
    (found,) = contradictions(terms)
    assert (found.kind, found.severe) == (kind, severe)
    assert says in found.says
    assert found.rows


def test_tiers_over_different_months_cannot_be_compared() -> None:
    yearly = replace(PLATINUM, minimum_spend=Decimal(10), window=Window.CALENDAR_YEAR)
    assert list(contradictions(replace(TERMS, tiers=(BASE, GOLD, yearly)))) == []
