"""The copies of a ledger's fold: the membership's row and the columns on account or contact."""

from datetime import datetime
from typing import Any

from connector.dataverse import Update
from connector.loyalty.ledger import State
from connector.loyalty.program import Program
from connector.rows import customers, ledger
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership


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


def is_rated(columns: dict[str, Any]) -> bool:
    """Whether they change an account's rating."""
    return "accountratingcode" in columns


def mirrored(customer: CustomerRow, columns: dict[str, Any], *, guarded: bool = False) -> Update:
    """The columns onto the customer. A rating, and what is `guarded`, only if the row is as it was read: a Conflict says that
    somebody has changed it meanwhile."""
    path = f"{customer.customer.entity_set}({customer.customer.id})"
    return Update(path, columns, if_match=((guarded or is_rated(columns)) and customer.etag) or "*")
