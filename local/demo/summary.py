"""What the run came to, read back from Dataverse."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from connector.dataverse import DataverseClient
from connector.loyalty.decisions import Outcome
from connector.loyalty.ledger import Kind
from connector.rows.choices import KIND_OF, OUTCOME

_OUTCOMES = {value: outcome for outcome, value in OUTCOME.items()}
_TOLD = {Kind.EARN: "earned", Kind.TAKEBACK: "taken back", Kind.REDEEM: "redeemed", Kind.VOID: "given back"}


def read_summary(client: DataverseClient) -> dict[str, Any]:
    """Points by kind, customers by tier, log rows by outcome."""
    points: Counter[str] = Counter()
    entries = 0
    for row in _rows(client, "loy_entries?$select=loy_kind,loy_points"):
        entries += 1
        if told := _TOLD.get(KIND_OF[row["loy_kind"]]):
            points[told] += abs(row["loy_points"])
    names = {row["loy_tierid"]: row["loy_name"] for row in _rows(client, "loy_tiers?$select=loy_name")}
    tiers = Counter(
        names.get(row["_loy_tierid_value"], "none")
        for row in _rows(client, "loy_memberships?$select=_loy_tierid_value")
    )
    log = Counter(_OUTCOMES[row["loy_outcome"]] for row in _rows(client, "loy_integrationlogs?$select=loy_outcome"))
    parked = f"loy_integrationlogs?$select=loy_message,loy_nextstep&$filter=loy_outcome eq {OUTCOME[Outcome.PARKED]}"
    return {
        "entries": entries,
        "points": dict(points),
        "tiers": dict(tiers),
        "log": {outcome.value: log[outcome] for outcome in Outcome},
        "parked": [f"{row['loy_message']} {row['loy_nextstep']}" for row in _rows(client, parked)],
    }


def table(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    points, log = summary["points"], summary["log"]
    rows = [
        ("households, invoices, lines", f"{summary['households']:,}, {summary['invoices']:,}, {summary['lines']:,}"),
        ("points earned", f"{points.get('earned', 0):,}"),
        ("points taken back", f"{points.get('taken back', 0):,}"),
        ("points redeemed (given back by voids)", f"{points.get('redeemed', 0):,} ({points.get('given back', 0):,})"),
        ("redemptions by answer", _listed(summary["redemptions"])),
        ("customers by tier", _listed(summary["tiers"])),
        ("integration log by outcome", _listed(log)),
        ("changes applied, messages dead", f"{summary['changes']:,}, {summary['dead']:,}"),
        ("requests to Dataverse per change", f"{summary['requests_per_change']:.2f}"),
        ("invoices per second", f"{summary['invoices_per_second']:.1f}"),
        ("elapsed", f"{summary['elapsed_seconds']:.1f} s (of it {summary['setup_seconds']:.1f} s setting up)"),
        ("audit", summary["audit"]),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    lines += [f"  parked: {sentence}" for sentence in summary["parked"]]
    return "\n".join(lines)


def _rows(client: DataverseClient, path: str) -> Iterable[dict[str, Any]]:
    for page in client.pages(path):
        yield from page


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
