"""How commands show a difference between what is and what would be."""

from connector.processing import Preview


def line(preview: Preview) -> str:
    """`account:... invoice <id>: +100 points. <sentence>`"""
    change, decision = preview.change, preview.decision
    points = f" {decision.points:+} points." if decision.entries else ""
    who = change.customer or "nobody's"
    return f"{decision.outcome.value:8} {who} {change.subject} {change.row}:{points} {decision.message}"
