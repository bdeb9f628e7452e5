"""The copies of a ledger's fold: the membership's row and the columns on account or contact."""

from datetime import datetime
from typing import Any

from connector.dataverse import Update, Upsert
from connector.loyalty.ledger import State
from connector.loyalty.program import Program
from connector.rows import customers, ledger
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership
from connector.rows.values import Row


def copies(
    program: Program,
    membership: Membership,
    state: State,
    customer: CustomerRow | None,
    now: datetime,
    *,
    rates: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns of the membership and of its customer (none when there is no customer any more).

    `rates` says that the customer's rating was read; without it the rating is left as it is.
    """
    row = ledger.membership_row(program, membership, state, customer.name if customer else "", now)
    if customer is None:
        return row, {}
    columns = customers.mirror(program, state, now)
    if rates and customer.customer.table == "account" and not membership.rating_override:
        tier, written = program.tier(state.tier, now.date()), membership.written_rating
        rating, by_hand = customers.rating(program, tier, written, customer.rating, now.date())
        if rating is not None:
            columns["accountratingcode"] = rating
            row["loy_writtenrating"] = rating
        if by_hand:
            row |= {"loy_ratingoverride": True, "loy_ratingoverridereason": by_hand}
    return row, columns


def is_rated(row: Row, columns: Row) -> bool:
    """Whether copies say something of the rating: which it is, or that it was set by hand. That holds of both rows only as
    they were read."""
    return "accountratingcode" in columns or "loy_ratingoverride" in row


def membership_write(membership: Membership, row: Row, *, as_read: bool = False) -> Update | Upsert:
    """The columns onto the membership. `as_read`: a Conflict says that somebody has changed it meanwhile."""
    path = f"loy_memberships({membership.customer.membership_id})"
    return Update(path, row, if_match=membership.etag) if as_read and membership.etag else Upsert(path, row)


def customer_write(customer: CustomerRow, columns: Row, *, as_read: bool = False) -> Update:
    """The columns onto account or contact. `as_read`: a Conflict says that somebody has changed it meanwhile."""
    path = f"{customer.customer.entity_set}({customer.customer.id})"
    return Update(path, columns, if_match=(as_read and customer.etag) or "*")


def as_read(membership: Membership, row: Row, customer: CustomerRow | None, columns: Row) -> list[Update | Upsert]:
    """Copies made anew, where no entry guards them: onto the membership as it was read, and likewise onto the customer if they
    say something of the rating."""
    writes: list[Update | Upsert] = [membership_write(membership, row, as_read=True)]
    if customer:
        writes.append(customer_write(customer, columns, as_read=is_rated(row, columns)))
    return writes
