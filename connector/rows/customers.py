"""Accounts and contacts: what a decision needs of them, and the columns we keep in step on them."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from connector.identity import Customer
from connector.loyalty.ledger import State
from connector.loyalty.program import Program, Tier
from connector.loyalty.sentences import say
from connector.loyalty.tiers import next_tier
from connector.rows.values import Row, Unusable, day

_ACCOUNT = "name,createdon,merged,_masterid_value,accountratingcode"
_CONTACT = "fullname,createdon,merged,_masterid_value"
DEFAULT_RATING = 1


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """`rating` is `accountratingcode` as it is now; contacts have none. `etag` is empty for one read
    behind a lookup of rows in a list."""

    customer: Customer
    name: str
    since: date | None
    rating: int | None
    etag: str = ""


def expand(prefix: str) -> str:
    """The expand options that read the customer behind a polymorphic lookup."""
    return f"{prefix}_account($select={_ACCOUNT}),{prefix}_contact($select={_CONTACT})"


def select(customer: Customer) -> str:
    return _ACCOUNT if customer.table == "account" else _CONTACT


def customer_path(customer: Customer) -> str:
    return f"{customer.entity_set}({customer.id})?$select={select(customer)}"


def expanded_customer(row: Row, prefix: str, field: str) -> CustomerRow:
    """The customer of a row read with `expand(prefix)`; Unusable when there is none, or it was merged into another."""
    for table in ("account", "contact"):
        found = row.get(f"{prefix}_{table}")
        if found:
            return customer_row(Customer(table, found[f"{table}id"]), found, field)
    gone = row.get(f"_{field.removesuffix('id')}id_value")
    message = say("customer.gone", field=field, customer=gone) if gone else say("customer.none", field=field)
    raise Unusable(message, reason="no_customer", field=field, next_step=say("next.customer", field=field))


def customer_row(customer: Customer, row: Row, field: str) -> CustomerRow:
    if row.get("merged"):
        raise Unusable(
            say(
                "customer.merged",
                field=field,
                customer=str(customer),
                heir=f"{customer.table}:{row.get('_masterid_value')}",
            ),
            reason="customer_merged",
            field=field,
            next_step=say("next.merged", field=field),
        )
    return CustomerRow(
        customer=customer,
        name=row.get("name") or row.get("fullname") or "",
        since=day(row, "createdon"),
        rating=row.get("accountratingcode"),
        etag=row.get("@odata.etag", ""),
    )


def living(customer: Customer, row: Row | None) -> CustomerRow | None:
    """A customer read by `customer_path`; None when there is none any more, or it was merged into another."""
    return customer_row(customer, row, "customer") if row and not row["merged"] else None


def mirror(program: Program, state: State, now: datetime) -> dict[str, Any]:
    """The columns on account and contact that follow from a membership."""
    today = now.date()
    lots = {expiry: points for expiry, points in state.usable(today).items() if expiry < date.max}
    expiring_on = min(lots, default=None)
    tier = program.tier(state.tier, today)
    above = next_tier(program, state, today)
    return {
        "loy_pointsbalance": state.balance,
        "loy_pointspending": state.pending_points,
        "loy_tiername": tier.name,
        "loy_suggestedrating": tier.rating_code,
        "loy_expiringpoints": lots[expiring_on] if expiring_on else 0,
        "loy_expiringon": expiring_on,
        "loy_nexttiername": above.tier.name if above else None,
        "loy_nexttierdistance": above.spend if above else None,
        "loy_membersince": state.since,
        "loy_loyaltyasof": now.replace(microsecond=0),
    }


def asks_for_another(tier: Tier, written: int | None) -> bool:
    """Whether a tier asks for another rating than we wrote last: only then does it matter what the account has."""
    return (tier.rating_code or DEFAULT_RATING) != (written or DEFAULT_RATING)


def rating(program: Program, tier: Tier, written: int | None, current: int | None, on: date) -> tuple[int | None, str]:
    """The rating to write (None: leave it), or why the present one is taken as set by hand.

    `written` is what we wrote last. A rating is ours to change when it is empty, the default, or just that. A tier without
    a rating gives ours back: the account gets the default.
    """
    wanted = tier.rating_code
    if wanted is None and written is not None and current == written:
        wanted = DEFAULT_RATING
    if not program.writes_rating or wanted is None or wanted == current:
        return None, ""
    if current not in {None, DEFAULT_RATING, written}:
        return None, f"Rating {current} was found on {on} where {wanted} follows from the tier."
    return wanted, ""
