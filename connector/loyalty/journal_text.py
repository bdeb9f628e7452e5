"""The ledger as plain text accounting, in the journal format that hledger, ledger and beancount's converters read.

Each entry is a transaction that balances: points go to `points:<account|contact>:<id>:...` and come from `programme:<kind>`.
A customer's spendable balance is the sum below `points:<customer>:spendable`, minus what is owed there.
"""

import re
from collections.abc import Iterator
from datetime import date

from connector.loyalty.ledger import Entry

_UNSAFE = re.compile(r"[^A-Za-z0-9:._-]")


def transaction(entry: Entry) -> Iterator[str]:
    """The lines of one entry; none for an entry that moves no points. Nothing a person typed is in them."""
    moved = entry.moved
    account = f"points:{_safe(entry.customer)}"
    postings = [(f"{account}:spendable:{_day(day)}", points) for day, points in sorted(moved.lots.items())]
    if moved.owed:
        postings.append((f"{account}:spendable:owed", -moved.owed))
    postings += [(f"{account}:pending:{_safe(cause).replace(':', '-')}", n) for cause, n in moved.pending.items()]
    if not postings:
        return
    yield f"{entry.occurred_on:%Y-%m-%d} * ({entry.sequence}) {entry.kind.value}  ; cause: {_safe(entry.cause)}"
    for name, points in postings:
        yield f"    {name}  {points} P"
    # Written although it is zero when points only become spendable: a transaction must balance for whoever reads it.
    yield f"    programme:{entry.kind.value}  {-sum(points for _, points in postings)} P"
    yield ""


def _day(day: date) -> str:
    return "unlimited" if day.year == date.max.year else day.isoformat()


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name)
