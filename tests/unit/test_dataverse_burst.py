"""How many requests a backlog takes when many sessions work on it. Counted, with a network and a clock of our own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from connector.dataverse.group import GroupCommit
from connector.dataverse.odata import Part, Response
from connector.dataverse.transport import Pressure
from tests.unit.test_dataverse_group import FOREVER, Service, change_set, reads

SESSIONS, CHANGES = 64, 10  # changes of each session, one after another


class Turns(Service):
    """Answers the request that is through first, as soon as every session waits for an answer; the clock jumps there.

    So nobody is fast or slow by chance.
    """

    def __init__(self, network: float, operation: float) -> None:
        super().__init__()
        self.now = 0.0
        self._network, self._operation = network, operation
        self._turn = threading.Condition()
        self._aboard, self._arrivals = 0, list[tuple[float, int]]()
        self._own = threading.local()
        self.working = SESSIONS
        self.group = GroupCommit(self, Pressure(), clock=lambda: self.now, departed=self._departed)

    def __call__(self, part: Part, *, timeout: float) -> Response:
        until = time.monotonic() + FOREVER
        with self._turn:
            mine = (self.now + self._network + self._operation * self._own.operations, threading.get_ident())
            self._arrivals.append(mine)
            while mine != min(self._arrivals) or self.group.waiting + self._aboard < self.working:
                assert time.monotonic() < until, "somebody never came"
                self._turn.wait(0.001)
            self.now = max(self.now, mine[0])
            self._arrivals.remove(mine)
            self._aboard -= self._own.units
        return super().__call__(part, timeout=timeout)

    def left(self) -> None:
        """A session has nothing more to do."""
        with self._turn:
            self.working -= 1

    def _departed(self, operations: int, units: int) -> None:
        self._own.operations, self._own.units = operations, units
        with self._turn:
            self._aboard += units


def requests_a_change(network: Turns) -> float:
    def session(number: int) -> None:
        for change in range(CHANGES):
            name = f"{number}-{change}"
            network.group.submit(reads(f"member-{name}", f"invoice-{name}", f"entries-{name}"), network.now + 1e5)
            writes = change_set(f"member-{name}", f"entry-{name}", f"account-{name}", f"log-{name}")
            network.group.submit(writes, network.now + 1e5)
        network.left()

    with ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(session, range(SESSIONS)))
    assert sum(map(len, network.batches)) == SESSIONS * CHANGES * 7
    return len(network.batches) / (SESSIONS * CHANGES)


# Where writes take long a batch holds fewer, and nobody misses requests: ten changes a second use up the execution time.
@pytest.mark.parametrize(("operation", "most"), [(0.004, 0.3), (0.02, 0.25), (0.085, 0.9)])
def test_under_load_changes_share_requests(operation: float, most: float) -> None:
    found = requests_a_change(Turns(0.06, operation))
    print(found)
    assert found <= most
