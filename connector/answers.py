"""Laws of what people asked for: a completed redemption, void or adjustment has exactly one entry, any other has none, and an
entry has the row that asked for it. Whoever's row it is: rows follow a merged customer, entries stay where they were made.
Rows are read as they come; entries with their customers, since nothing else finds them by an index.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import batched

from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import any_of, guid, text
from connector.loyalty.codes import parse_code
from connector.loyalty.ledger import Entry, Kind
from connector.rows.choices import AdjustmentStatus, RedemptionStatus, RedemptionType
from connector.rows.ledger import code_entry_id
from connector.rows.values import Row

_AT_ONCE = 100
_REDEMPTIONS = "loy_redemptions?$select=loy_type,loy_status,loy_voidscode"
_ADJUSTMENTS = "loy_adjustments?$select=loy_status"


def without_row(client: DataverseClient, entries: Iterable[Entry]) -> set[str]:
    """The causes of those entries whose redemption or adjustment does not exist. At most one request."""
    missing, asked = set[str](), defaultdict[str, set[str]](set)
    for entry in entries:
        subject, _, row_id = entry.cause.partition(":")
        if entry.kind in (Kind.REDEEM, Kind.ADJUST) and subject in ("redemption", "adjustment"):
            missing.add(entry.cause)
            with suppress(ValueError):  # whoever tampers with an entry can name anything
                asked[subject].add(guid(row_id))
    asks = [(subject, some) for subject, ids in asked.items() for some in batched(sorted(ids), _AT_ONCE, strict=False)]
    gets = [
        Get(f"loy_{subject}s?$select=loy_{subject}id&$filter={any_of(f'loy_{subject}id', some)}")
        for subject, some in asks
    ]
    for (subject, _), rows in zip(asks, client.read(*gets), strict=True):
        missing -= {f"{subject}:{row[f'loy_{subject}id']}" for row in rows}
    return missing


class AnswerAudit:
    """`broken` hears of each broken law."""

    def __init__(self, client: DataverseClient, broken: Callable[[str], None]) -> None:
        self._client = client
        self._broken = broken

    def run(self) -> Iterator[Counter[str]]:
        """Counts of what was looked at, page by page."""
        for page in self._client.pages(_REDEMPTIONS, max_page_size=_AT_ONCE):
            yield self._redemptions([row for row in page if row["loy_type"] != RedemptionType.VOID])
            self._voids([row for row in page if row["loy_type"] == RedemptionType.VOID])
        for page in self._client.pages(_ADJUSTMENTS, max_page_size=_AT_ONCE):
            yield self._adjustments(page)

    def _redemptions(self, rows: Sequence[Row], *, last: bool = False) -> Counter[str]:
        causes = {f"redemption:{row['loy_redemptionid']}": row for row in rows}
        keys = self._keys([*causes, *(f"{cause}:void" for cause in causes)])
        suspects = []
        for cause, row in causes.items():
            status = RedemptionStatus(row["loy_status"])
            spent = status in (RedemptionStatus.COMPLETED, RedemptionStatus.VOIDED)
            given_back = status is RedemptionStatus.VOIDED
            if (cause in keys, f"{cause}:void" in keys) == (spent, given_back):
                continue
            suspects.append(row["loy_redemptionid"])
            if last:
                self._broken(f"{cause} is {status.name.lower()} and its entries do not fit")
        if suspects and not last:
            # Perhaps it was decided between our two reads.
            self._redemptions(self._again(_REDEMPTIONS, "loy_redemptionid", suspects), last=True)
        return Counter({"redemptions": len(rows)})

    def _voids(self, rows: Sequence[Row]) -> None:
        """A completed void names the code of a redemption that has been given back."""
        codes = {}
        for row in rows:
            if row["loy_status"] != RedemptionStatus.COMPLETED:
                continue
            try:
                codes[row["loy_redemptionid"]] = code_entry_id(parse_code(row["loy_voidscode"] or ""))
            except ValueError:
                self._broken(f"void {row['loy_redemptionid']} is completed and names no transaction code")
        causes: dict[str, str] = {}
        for some in batched(codes.values(), _AT_ONCE, strict=False):
            path = f"loy_entries?$select=loy_cause&$filter={any_of('loy_entryid', some)}"
            causes |= {entry["loy_entryid"]: entry["loy_cause"] for entry in self._client.get(path)}
        keys = self._keys([f"{cause}:void" for cause in causes.values()])
        for void, entry in codes.items():
            if f"{causes.get(entry)}:void" not in keys:
                self._broken(f"void {void} is completed and nothing was given back for its code")

    def _adjustments(self, rows: Sequence[Row], *, last: bool = False) -> Counter[str]:
        causes = {f"adjustment:{row['loy_adjustmentid']}": row for row in rows}
        keys = self._keys(list(causes))
        suspects = []
        for cause, row in causes.items():
            status = AdjustmentStatus(row["loy_status"])
            if (cause in keys) == (status is AdjustmentStatus.COMPLETED):
                continue
            suspects.append(row["loy_adjustmentid"])
            if last:
                self._broken(f"{cause} is {status.name.lower()} and its entries do not fit")
        if suspects and not last:
            self._adjustments(self._again(_ADJUSTMENTS, "loy_adjustmentid", suspects), last=True)
        return Counter({"adjustments": len(rows)})

    def _again(self, path: str, id_column: str, ids: Sequence[str]) -> list[Row]:
        return list(self._client.get(f"{path}&$filter={any_of(id_column, ids)}"))

    def _keys(self, keys: Sequence[str]) -> set[str]:
        """Which of some idempotency keys are in the ledger."""
        gets = [
            Get(
                f"loy_entries?$select=loy_idempotencykey&$filter={any_of('loy_idempotencykey', [text(k) for k in some])}"
            )
            for some in batched(keys, _AT_ONCE, strict=False)
        ]
        return {row["loy_idempotencykey"] for rows in self._client.read(*gets) for row in rows}
