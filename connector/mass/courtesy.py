"""Watches how long people wait for their redemptions while a run is under way."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from connector.dataverse import DataverseClient
from connector.dataverse.odata import moment, utc
from connector.mass.pace import Pace
from connector.rows.choices import RedemptionStatus

_LOOK_BACK = timedelta(minutes=1)
_EVERY = timedelta(seconds=10)
_MOST = 200
_PATH = f"loy_redemptions?$select=createdon,loy_decidedon&$top={_MOST}&$filter="


class Courtesy:
    """Slows the run down when one redemption in ten waits longer than `patience` seconds, and twice as long as when it began.

    After each such step only those who came since are looked at: whoever had waited before says nothing about it.
    """

    def __init__(
        self, client: DataverseClient, paces: Sequence[Pace], clock: Callable[[], datetime], patience: float = 2.0
    ) -> None:
        self._client = client
        self._paces = paces
        self._clock = clock
        self._patience = patience
        self._next = clock()
        self._since = self._next - _LOOK_BACK
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
        too_long = wait > max(self._patience, 2 * self._usual)
        if too_long:
            self._since = now
        for pace in self._paces:
            if too_long:
                pace.narrow()
            else:
                pace.widen()

    def waiting(self, now: datetime) -> float:
        """Seconds that the slowest tenth of recent redemptions waited at least, or wait still; 0 when there were none."""
        came = f"createdon ge {moment(max(now - _LOOK_BACK, self._since).replace(microsecond=0))}"
        # An index finds what was decided; only when nothing was, it is worth a walk through all to see whether anybody waits.
        decided = self._client.get(f"{_PATH}{came} and loy_decidedon ge {moment(now - _LOOK_BACK)}")
        waits = [(utc(row["loy_decidedon"]) - utc(row["createdon"])).total_seconds() for row in decided]
        if not waits:
            waiting = self._client.get(f"{_PATH}{came} and loy_status eq {RedemptionStatus.REQUESTED.value}")
            waits = [(now - utc(row["createdon"])).total_seconds() for row in waiting]
        return sorted(waits)[len(waits) * 9 // 10] if waits else 0.0
