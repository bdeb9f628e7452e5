"""What is told about an entry, for whoever writes to customers."""

import json
from typing import TYPE_CHECKING

from connector.loyalty.ledger import Entry, Kind
from connector.loyalty.program import Program

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusMessage

_NO_NEWS = frozenset({Kind.EARN, Kind.EXPIRE})  # without points: spend that earns nothing, points that are all spared


def announced(program: Program, entry: Entry) -> bool:
    """Whether somebody is to be told of an entry."""
    return entry.kind.value in program.notice_kinds and bool(entry.points or entry.kind not in _NO_NEWS)


def notice(
    entry_id: str,
    *,
    customer: str,
    kind: Kind,
    points: int,
    cause: str,
    tier: str | None,
    occurred_on: str,
    balance: int,
    template: str = "",
) -> "ServiceBusMessage":
    """The message about one entry. Its id is the entry's: the queue's duplicate detection or the receiver knows a repetition.

    `balance` is what the customer has when the message is made, later entries included.

    `template` names how whoever writes to the customer should put it; without one they choose by kind.
    """
    from azure.servicebus import ServiceBusMessage  # heavy: paid when the first message is sent

    body = {
        "entry": entry_id,
        "customer": customer,
        "kind": kind.value,
        "points": points,
        "cause": cause,
        "tier": tier,
        "occurred_on": occurred_on,
        "balance": balance,
    }
    if template:
        body["template"] = template
    return ServiceBusMessage(json.dumps(body), message_id=entry_id, content_type="application/json")
