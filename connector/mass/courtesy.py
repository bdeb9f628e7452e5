"""Watches how long people wait for their redemptions while a run is under way."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from connector.dataverse import DataverseClient, Get
from connector.dataverse.odata import moment, utc
from connector.mass.pace import Pace

_LOOK_BACK = timedelta(minutes=1)
_BEFORE = timedelta(minutes=10)
_EVERY = timedelta(seconds=10)
_MOST = 200
_UNBEARABLE = 30.0  # seconds, however long people waited before: a run that begins after an incident makes room too
_PATH = f"loy_redemptions?$select=createdon,loy_decidedon&$top={_MOST}&$filter="


class Courtesy:
    """Slows a run down when one redemption in ten waits longer than `patience` seconds and twice as long as before it `began`, or
    longer than half a minute.

    After each such step only those who came since are looked at: whoever had waited before says nothing about it.
    """

    def __init__(
        self,
        client: DataverseClient,
        paces: Sequence[Pace],
        clock: Callable[[], datetime],
        began: datetime | None,
        patience: float = 2.0,
    ) -> None:
        self._client = client
        self._paces = paces
        self._clock = clock
        self._began = began
        self._patience = patience
        self._next = clock()
        self._since = self._next - _LOOK_BACK
        self._bearable: float | None = None

    def look(self) -> None:
        """Every ten seconds, whatever it is called; in between it does nothing."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _EVERY
        if self._bearable is None:
            began = self._began or now
            usual = self._waits(began - _BEFORE, began)
            self._bearable = min(max(self._patience, 2 * usual), _UNBEARABLE)
        too_long = self._waits(max(now - _LOOK_BACK, self._since), now) > self._bearable
        if too_long:
            self._since = now
        for pace in self._paces:
            if too_long:
                pace.narrow()
            else:
                pace.widen()

    def _waits(self, since: datetime, until: datetime) -> float:
        """Seconds that the slowest tenth of those who came in between waited at least, or wait still; 0 when nobody came."""
        first, last = (moment(when.replace(microsecond=0)) for when in (since, until))
        came = f"{_PATH}createdon ge {first} and createdon le {last}"
        # An index has the days of decision, and those without one together.
        decided, waiting = self._client.read(
            Get(f"{came} and loy_decidedon ge {first}"), Get(f"{came} and loy_decidedon eq null")
        )
        waits = [(utc(row["loy_decidedon"]) - utc(row["createdon"])).total_seconds() for row in decided]
        waits += [(until - utc(row["createdon"])).total_seconds() for row in waiting]
        return sorted(waits)[len(waits) * 9 // 10] if waits else 0.0
