"""What the programme's terms say, as arithmetic: points, days and tiers of invoices."""

from calendar import monthrange
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from benchmarks.chaos.facts import Invoice, Ladder, Rule, Terms, Tier, Version


def net(version: Version) -> Decimal:
    """Money without tax and freight, after all discounts."""
    return sum((line.quantity * line.price - line.discount for line in version.lines), Decimal(0)) - version.discount


def base(version: Version, rule: Rule) -> Fraction:
    """Points before the multiplier: the discount on the whole invoice falls on all lines in proportion."""
    lines = [(line, Fraction(line.quantity * line.price - line.discount)) for line in version.lines]
    total = sum((money for _, money in lines), Fraction(0))
    earning = sum((money for line, money in lines if line.category.lower() not in rule.excluded), Fraction(0))
    share = Fraction(net(version)) / total if total else Fraction(0)
    return max(Fraction(0), earning * share * Fraction(rule.rate))


def later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def days_of(terms: Terms, invoice: Invoice) -> set[date]:
    """Days from which its points may be spendable. It keeps the first that was seen while it stays paid."""
    if terms.spendable == "issue":
        return {invoice.dated.date()}
    wait = timedelta(days=terms.days if terms.spendable == "days after payment" else 0)
    return {version.at.date() + wait for version in invoice.versions if version.status == "paid"}


def expiry(terms: Terms, day: date, months: int | None = None) -> date:
    """The last day of points that are spendable from a day."""
    end = later(day, terms.lifetime if months is None else months)
    match terms.period:
        case "day":
            return end
        case "quarter":
            end = end.replace(day=1, month=(end.month + 2) // 3 * 3)
        case "year":
            end = end.replace(day=1, month=12)
    return end.replace(day=monthrange(end.year, end.month)[1])


def tier_of(ladder: Ladder, spend: Mapping[str, Decimal], earned: Mapping[str, int], since: date, on: date) -> Tier:
    best = ladder[0]
    for tier in ladder[1:]:
        first = {"lifetime": "", "year": f"{on.year}-01", "rolling": month_of(on, 1 - tier.months)}[tier.window]
        last = "9999" if tier.window == "lifetime" else month_of(on, 0)
        money = sum((part for month, part in spend.items() if first <= month <= last), Decimal(0))
        points = sum(part for month, part in earned.items() if first <= month <= last)
        if money >= tier.spend and points >= tier.points and (not tier.tenure or later(since, tier.tenure) <= on):
            best = tier
    return best


def month_of(day: date, months: int) -> str:
    return f"{later(day.replace(day=1), months):%Y-%m}"
