"""What every kind of change comes down to before it is committed."""

from dataclasses import dataclass

from connector.bus.change import Change
from connector.dataverse import Update
from connector.loyalty.decisions import Decision
from connector.loyalty.program import Program
from connector.rows.customers import CustomerRow
from connector.rows.ledger import Membership
from connector.store import Posting


@dataclass(frozen=True, slots=True)
class Request:
    """A change to decide. `behind`: the membership may not know its newest entries; `attempt` counts conflicts before."""

    change: Change
    program: Program
    behind: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class Case:
    """A decision and what surrounds it. `forward` are customers who must look at the same row; `also` is a second ledger."""

    decision: Decision
    membership: Membership | None = None
    customer: CustomerRow | None = None
    answers: tuple[Update, ...] = ()
    forward: tuple[str, ...] = ()
    also: Posting | None = None
