"""A run spends what Dataverse grants, is hardly ever refused, and makes room when people wait."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from connector.dataverse import Get
from connector.mass.courtesy import Courtesy
from connector.mass.pace import Pace
from local.dataverse.errors import Fault
from local.dataverse.limits import EXECUTION, REQUESTS, WINDOW, Meter


class World:
    """Dataverse's own limits in virtual time; each call takes some seconds of execution and less of the clock."""

    def __init__(self, seconds: float, duration: float) -> None:
        self.time = 0.0
        self.budget: dict[str, float] = {}
        self.parallelism = 8
        self.refused = self.spent = 0.0
        self._seconds = seconds
        self._duration = duration
        self._meter = Meter()
        self._meter.configure({"enforced": True})

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def call(self) -> None:
        while True:
            try:
                self._meter.enter("us", self.time)
                break
            except Fault as fault:
                self.refused += 1
                self.sleep(fault.retry_after or 1)
        self.time += self._duration
        headers = self._meter.leave("us", self.time, self._seconds)
        self.spent += self._seconds
        self.budget = {
            "requests": float(headers["x-ms-ratelimit-burst-remaining-xrm-requests"]),
            "seconds": float(headers["x-ms-ratelimit-time-remaining-xrm-requests"]),
        }


EACH = [(11.0, 0.1), (19.0, 1.0), (2.0, 0.05), (0.05, 0.01), (60.0, 0.5), (60.0, 3.0)]


@pytest.mark.parametrize(("slices", "least"), [(1, 0.8), (20, 0.75)])
@pytest.mark.parametrize(("seconds", "duration"), EACH)
def test_the_limits_are_used_and_seldom_met(seconds: float, duration: float, slices: int, least: float) -> None:
    """Ten windows, in which calls come in bursts; who begins a new slice finds what the one before has spent."""
    world, calls = World(seconds, duration), 0
    for n in range(slices):
        pace = Pace(world, 4, clock=lambda: world.time, sleep=world.sleep)  # type: ignore[arg-type]
        while world.time < 10 * WINDOW * (n + 1) / slices:
            with pace.call():
                world.call()
            calls += 1
        assert pace.held_back() > 0 or slices > 1
        assert pace.held_back() == 0
    windows = 1 + world.time / WINDOW  # what is granted may be spent at once, and again as it comes back
    used = max(world.spent / EXECUTION, calls / REQUESTS) / windows
    assert used > least, f"{used:.2f} of what is granted"
    assert world.refused <= slices / 2, f"{world.refused} refusals in {calls} calls"


def test_who_has_no_limits_is_not_held_back() -> None:
    client: Any = SimpleNamespace(budget={}, parallelism=None)
    pace = Pace(client, 4, clock=lambda: 0.0, sleep=lambda seconds: pytest.fail("slept"))
    for _ in range(10):
        with pace.call():
            pass
    assert pace.held_back() == 0


def test_waiting_people_come_first() -> None:
    now = [datetime(2026, 11, 22, tzinfo=UTC)]
    began = now[0]
    rows: list[dict[str, Any]] = []
    asked: list[str] = []

    def read(decided: Get, waiting: Get) -> list[list[dict[str, Any]]]:
        """Who came before the run was decided in two seconds."""
        asked.append(decided.path)
        if f"createdon le {began:%Y-%m-%dT%H:%M:%SZ}" in decided.path:
            return [[redemption(2.0)], []]
        return [[row for row in rows if row["loy_decidedon"]], [row for row in rows if not row["loy_decidedon"]]]

    client: Any = SimpleNamespace(budget={}, parallelism=None, read=read)
    slept: list[float] = []
    seconds = [0.0]
    pace = Pace(client, 4, clock=lambda: seconds[0], sleep=slept.append)
    courtesy = Courtesy(client, [pace], lambda: now[0], began)

    def redemption(waited: float) -> dict[str, Any]:
        made = now[0] - timedelta(seconds=60)
        answered = made + timedelta(seconds=waited)
        return {"createdon": made.isoformat(), "loy_decidedon": answered.isoformat()}

    def look(times: int = 1) -> float:
        for _ in range(times):
            now[0] += timedelta(seconds=11)
            courtesy.look()
        return pace.width

    rows[:] = [redemption(4.0) for _ in range(20)]  # twice as long as usual
    assert look() == 4
    rows[:] = [redemption(9.0) for _ in range(20)]
    assert [look(), look(), look(), look(), look()] == [2, 1, 0.5, 0.25, 0.25]
    stepped = now[0] - timedelta(seconds=11)  # who came before the step before this look is not asked about
    assert f"createdon ge {stepped:%Y-%m-%dT%H:%M:%SZ}" in asked[-1]
    with pace.call():
        seconds[0] += 2
    assert slept == [6]  # a call of two seconds, then six without one
    rows[:] = [redemption(1.0) for _ in range(20)]
    assert look(20) == 4
    waiting = {"createdon": (now[0] - timedelta(seconds=50)).isoformat(), "loy_decidedon": None}
    rows[:] = [waiting for _ in range(20)]
    assert look() == 2
    rows.clear()
    assert look(10) == 4


def test_a_run_after_an_incident_makes_room_too() -> None:
    """Whoever came before it waited five minutes; that is no measure of what is bearable."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    waits = [300.0, 29.0, 31.0]  # of those before the run, and of each look

    def read(decided: Get, waiting: Get) -> list[list[dict[str, Any]]]:
        made = now - timedelta(minutes=10)
        answered = made + timedelta(seconds=waits.pop(0))
        return [[{"createdon": made.isoformat(), "loy_decidedon": answered.isoformat()}], []]

    client: Any = SimpleNamespace(budget={}, parallelism=None, read=read)
    pace = Pace(client, 4, clock=lambda: 0.0)
    courtesy = Courtesy(client, [pace], lambda: now, now)
    courtesy.look()
    assert pace.width == 4
    now += timedelta(seconds=11)
    courtesy.look()
    assert pace.width == 2


def test_calls_shrink_where_they_are_too_large_and_grow_back() -> None:
    world = World(0.01, 0.01)
    pace = Pace(world, 1, clock=lambda: world.time, sleep=world.sleep)  # type: ignore[arg-type]
    sizes = []
    for most in [100] * 60 + [10_000] * 60:
        with pace.call():
            sizes.append(pace.rows)
        if sizes[-1] > most:
            pace.smaller()
    assert sizes[0] == sizes[-1] == 1000
    assert sum(size > 100 for size in sizes[10:60]) < 10
    assert min(sizes[10:]) > 40
