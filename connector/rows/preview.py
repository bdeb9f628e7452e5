"""What a change would do now, as JSON for the person who asks before resuming it."""

import json
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from connector.loyalty.ledger import Entry, State
from connector.loyalty.sentences import Sentence, parts_of

# Entries listed of one ledger: a person reads them. A correction of a whole history has more.
_LISTED = 50


def ledger_preview(
    customer: str, outcome: str, sentence: Sentence, before: State, after: State, entries: Iterable[Entry], today: date
) -> dict[str, Any]:
    """One customer's part: the sentence, points before and after, and the entries that would be appended."""
    appended = list(entries)
    return {
        "customer": customer,
        "outcome": outcome,
        "message": str(sentence),
        "said": parts_of(sentence),
        "before": _points(before, today),
        "after": _points(after, today),
        "count": len(appended),
        "entries": [
            {
                "kind": entry.kind.value,
                "points": entry.points,
                "cause": entry.cause,
            }
            for entry in appended[:_LISTED]
        ],
    }


def preview_columns(ledgers: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """What the connector writes on the log row that was checked."""
    text = json.dumps({"at": now.replace(microsecond=0).isoformat(), "ledgers": ledgers}, separators=(",", ":"))
    return {"loy_preview": text, "loy_check": False}


def _points(state: State, today: date) -> dict[str, Any]:
    return {
        "available": state.available(today),
        "pending": state.pending_points,
        "owed": state.owed,
        "tier": state.tier,
    }
