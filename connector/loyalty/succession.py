"""A customer was merged into another: what the one's ledger still holds goes over to the other's.

Spendable lots keep their expiry, and so does a debt: it is taken from the points that it was made for, if the heir has them.
Pending points stay: they belong to an invoice, which is another's now and takes them along when it is looked at.
"""

from collections.abc import Mapping
from datetime import date, datetime

from connector.loyalty import lots
from connector.loyalty.ledger import Journal, Kind, Movements


def hand_over(
    giver: Journal,
    heir: Journal,
    now: datetime,
    *,
    tier: str,
    since: date | None,
    credited: Mapping[date, int] | None = None,
) -> int:
    """Append to both journals what empties the giver of lots and debt; answers with the points that went over.

    `credited` are the lots in which to look first for the points of a debt; `tier` and `since` begin an empty ledger.
    """
    state = giver.state
    if not state.lots and not state.owed:
        return 0
    out = Movements(lots={day: -points for day, points in state.lots.items()}, owed=-state.owed)
    gained = lots.credit(heir.state, state.lots)
    if state.owed:  # then there are no lots
        gained = lots.take_back(heir.state, state.owed, "", credited or {})
    first = heir.state.sequence == 0
    gained = Movements(lots=gained.lots, owed=gained.owed, tier=tier if first else None, since=since if first else None)
    giver_id, heir_id = (customer.partition(":")[2] for customer in (giver.customer, heir.customer))
    key = f"merge:{giver_id}:{heir_id}:{state.sequence}"
    explanation = {
        "reason": f"{giver.customer} was merged into {heir.customer}",
        "from": giver.customer,
        "to": heir.customer,
    }
    for journal, movements, side in ((giver, out, "out"), (heir, gained, "in")):
        journal.append(
            Kind.ADJUST,
            movements,
            cause=f"merge:{giver_id}",
            key=f"{key}:{side}",
            occurred_on=now,
            explanation=explanation,
        )
    return -out.points
