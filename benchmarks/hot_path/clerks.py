"""How long a redemption takes when so many clerks redeem at once, each a customer of their own, one after another.

`api`: a till's POST that waits for its answer. `row`: the row is created as by the dialog, and looked at until it is decided.
`floor`: the same row, then one read and one change set at once, without queues and without logic, then the row read back.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import requests

from benchmarks.hot_path.floor import Floor
from benchmarks.hot_path.lab import Lab
from benchmarks.hot_path.stream import Kind, Names, Recording, Row
from connector.bus import Change, Subject
from connector.dataverse.odata import bind
from connector.dataverse.transport import API
from connector.identity import Customer
from connector.rows.choices import RedemptionStatus, RedemptionType

WAYS = ("floor", "api", "row")
_HISTORY = 10
_FIRST_LOOK, _LONGEST_PAUSE = 0.1, 1.0  # seconds, growing by half: as the dialog looks
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds of each redemption, sorted."""

    way: str
    clerks: int
    seconds: list[float]

    def percentile(self, share: float) -> float:
        return self.seconds[min(len(self.seconds) - 1, int(len(self.seconds) * share))]


class Counter:
    """Clerks at the counters of a lab whose function app is running."""

    def __init__(self, lab: Lab, functions_url: str, key: str) -> None:
        self._lab = lab
        self._api = f"{functions_url}/api/redemptions"
        self._key = key
        self._rows = f"{lab.endpoints['dataverse_url']}{API}loy_redemptions"
        self._tokens = lab.tokens
        self._floor = Floor(lab.settings)
        self._local = threading.local()

    def measure(self, way: str, clerks: int, each: int) -> Waits:
        """`each` redemptions of every clerk; one more at the beginning does not count."""
        names = Names(str(uuid4()))
        rows = tuple(Row(number, Kind.PAID, number, 20) for number in range(clerks))
        self._lab.plant(Recording(_HISTORY, rows, ()), names)
        redeem: Callable[[Customer], None] = getattr(self, f"_by_{way}")
        start = threading.Barrier(clerks)

        def clerk(number: int) -> list[float]:
            customer = names.customer(number)
            redeem(customer)
            start.wait()
            took = []
            for _ in range(each):
                began = time.monotonic()
                redeem(customer)
                took.append(time.monotonic() - began)
            return took

        with ThreadPoolExecutor(clerks) as pool:
            return Waits(way, clerks, sorted(one for took in pool.map(clerk, range(clerks)) for one in took))

    def _by_api(self, customer: Customer) -> None:
        answer = self._session.post(
            self._api,
            json={"customer": str(customer), "points": 1},
            headers={"x-functions-key": self._key, "Prefer": "wait=30", "Idempotency-Key": str(uuid4())},
            timeout=_PATIENCE,
        )
        if answer.status_code != 201:
            raise SystemExit(f"hot_path: a redemption was answered {answer.status_code}: {answer.text[:300]}")

    def _by_row(self, customer: Customer) -> None:
        row_id = self._create(customer)
        until, pause = time.monotonic() + _PATIENCE, _FIRST_LOOK
        while (status := self._status(row_id)) == RedemptionStatus.REQUESTED and time.monotonic() < until:
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)
        if status != RedemptionStatus.COMPLETED:
            raise SystemExit(f"hot_path: a redemption has the status {status}")

    def _by_floor(self, customer: Customer) -> None:
        row_id = self._create(customer, quiet=True)
        self._floor.handle(Change.about(Subject.REDEMPTION, row_id, str(customer), cause="floor"))
        if self._status(row_id) != RedemptionStatus.COMPLETED:
            raise SystemExit("hot_path: the floor did not write its answer")

    def _create(self, customer: Customer, *, quiet: bool = False) -> str:
        row_id = str(uuid4())
        row: dict[str, Any] = {
            "loy_redemptionid": row_id,
            "loy_requestid": row_id,
            "loy_name": "Redeem 1",
            "loy_type": RedemptionType.REDEEM.value,
            "loy_status": RedemptionStatus.REQUESTED.value,
            "loy_points": 1,
            f"loy_CustomerId_{customer.table}@odata.bind": bind(customer.entity_set, customer.id),
        }
        headers = self._headers() | ({"MSCRM.BypassCustomPluginExecution": "true"} if quiet else {})
        self._session.post(self._rows, json=row, headers=headers, timeout=_PATIENCE).raise_for_status()
        return row_id

    def _status(self, row_id: str) -> int:
        path = f"{self._rows}({row_id})?$select=loy_status,loy_transactioncode,loy_reason"
        answer = self._session.get(path, headers=self._headers(), timeout=_PATIENCE)
        answer.raise_for_status()
        return int(answer.json()["loy_status"])

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens.token()}"}

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False
            session.verify = self._lab.endpoints["ca_file"]
        return session
