"""The connector's client against limits that are enforced: refusals cost time, and nothing else."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from connector.dataverse import Create, DataverseClient
from local.dataverse.adapter import DataverseAdapter
from tests.dataverse.conftest import URL, Dataverse
from tests.dataverse.test_limits_and_faults import admin
from tests.stopwatch import Stopwatch

SESSIONS, EACH = 64, 2
SCALE = 300  # a window of a second: 20 requests, 4 s of execution


class Tokens:
    def token(self) -> str:
        return "admin"

    def renew(self, rejected: str) -> str:
        raise AssertionError(f"{rejected} was refused")


@pytest.fixture
def client(dataverse: Dataverse, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataverseClient]:
    time = Stopwatch()
    monkeypatch.setattr("local.dataverse.app.time", time)
    door = DataverseAdapter(dataverse.application)
    with DataverseClient(
        URL, Tokens(), adapter=door, deadline=600, clock=time.monotonic, sleep=time.sleep, slots=8
    ) as made:
        yield made


def test_a_burst_beyond_the_limits_is_written_once_and_completely(
    dataverse: Dataverse, client: DataverseClient
) -> None:
    admin(dataverse, "limits", {"enforced": True, "scale": SCALE})
    admin(dataverse, "counters", {})
    ids = [[str(uuid4()) for _ in range(EACH)] for _ in range(SESSIONS)]

    def session(own: list[str]) -> None:
        for row in own:
            client.commit([Create("accounts", {"accountid": row, "name": row})])

    with ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(session, ids))
    counters = admin(dataverse, "counters").json()
    admin(dataverse, "limits", {"enforced": False})
    written = Counter(row["accountid"] for row in dataverse.ok("GET", "accounts?$select=accountid")["value"])
    assert written == Counter(row for own in ids for row in own)
    refused = counters["statuses"].get("429", 0)
    windows = SESSIONS * EACH * 0.082 / 4  # that the execution takes at least
    print(f"{counters['requests']} requests, {refused} refused, {windows:.1f} windows")
    assert refused > 0  # else this tells nothing
    # Who is refused pauses for everybody: only requests already on their way are refused too.
    assert refused <= 8 * (windows + 1)
    assert counters["rows_written"] == SESSIONS * EACH
