"""Watches how long people wait for their redemptions while a run is under way."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from connector.dataverse import DataverseClient
from connector.dataverse.odata import moment, utc
from connector.mass.pace import Pace
from connector.rows.choices import RedemptionStatus

_LOOK_BACK = timedelta(minutes=2)
_EVERY = timedelta(seconds=10)
_MOST = 200


class Courtesy:
    """Slows the run down when nine in ten redemptions wait longer than `patience` seconds, or twice as long as when it began."""

    def __init__(
        self, client: DataverseClient, paces: Sequence[Pace], clock: Callable[[], datetime], patience: float = 5.0
    ) -> None:
        self._client = client
        self._paces = paces
        self._clock = clock
        self._patience = patience
        self._next = clock()
        self._usual: float | None = None

    def look(self) -> None:
        """Every ten seconds, whatever it is called; in between it does nothing."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _EVERY
        wait = self.waiting(now)
        if self._usual is None:
            self._usual = wait
        for pace in self._paces:
            if wait > max(self._patience, 2 * self._usual):
                pace.narrow()
            else:
                pace.widen()

    def waiting(self, now: datetime) -> float:
        """Seconds that nine in ten recent redemptions waited, or wait still; 0 when there were none."""
        since = moment((now - _LOOK_BACK).replace(microsecond=0))
        path = f"loy_redemptions?$select=createdon,loy_decidedon,loy_status&$filter=createdon ge {since}&$top={_MOST}"
        waits = []
        for row in self._client.get(path):
            if row["loy_status"] == RedemptionStatus.REQUESTED:
                waits.append((now - utc(row["createdon"])).total_seconds())
            elif row["loy_decidedon"]:
                waits.append((utc(row["loy_decidedon"]) - utc(row["createdon"])).total_seconds())
        return sorted(waits)[len(waits) * 9 // 10] if waits else 0.0
