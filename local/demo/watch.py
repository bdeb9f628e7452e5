"""Knows when the stack has settled, and shows how far it is: asks the stand-ins' own counters."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import requests
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from local.demo.screen import Screen
from local.demo.stack import StackError

_PAUSE = 0.25
_PATIENCE = 60.0  # seconds for a part to start again


@dataclass(frozen=True, slots=True)
class Progress:
    """`undelivered` events are still inside Dataverse, `queued` messages on the queues, `running` calls in the app;
    `dead` letters lie there; `applied` changes and `requests` to Dataverse count from the start of the stack."""

    undelivered: int
    queued: int
    running: int
    applied: int
    dead: int
    requests: int

    @property
    def settled(self) -> bool:
        return not (self.undelivered or self.queued or self.running)


class Watch:
    """`patience`: for how many seconds a part may be away, being started again, before StackError."""

    def __init__(self, endpoints: dict[str, Any], screen: Screen | None = None, *, patience: float = _PATIENCE) -> None:
        self._endpoints = endpoints
        self._screen = screen or Screen()
        self._patience = patience
        self._session = requests.Session()
        self._session.trust_env = False  # a CA bundle from the environment would outrank ours
        self._session.verify = endpoints["ca_file"]
        self._started = time.monotonic()
        self._sums = _Sums()

    def counters(self, part: str) -> dict[str, Any]:
        """The admin counters of `dataverse`, `servicebus` or `functions`."""
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(requests.RequestException),
                wait=wait_fixed(_PAUSE),
                stop=stop_after_delay(self._patience),
            ):
                with attempt:
                    return self._ask(part)
        except RetryError as error:
            reason = type(error.last_attempt.exception()).__name__
            raise StackError(f"{part} of the local stack does not answer ({reason})") from None
        raise AssertionError("the loop returns or raises")

    def progress(self) -> Progress:
        dataverse, bus, functions = (self.counters(part) for part in ("dataverse", "servicebus", "functions"))
        ours = [bus["queues"][queue] for queue in ("dataverse-events", "loyalty-changes")]
        return Progress(
            undelivered=dataverse["outbox"],
            queued=sum(queue["active"] + queue["locked"] + queue["scheduled"] for queue in ours),
            running=functions["running"],
            applied=self._sums.of("applied", bus["queues"]["loyalty-changes"]["completed"]),
            dead=sum(queue["dead_letters"] for queue in ours),
            requests=self._sums.of("requests", dataverse["requests"]),
        )

    def settle(self, loaded: str, timeout: float) -> Progress:
        """Wait until nothing is on its way any more, seen twice: a message may be between two places."""
        quiet = 0
        until = time.monotonic() + timeout
        while True:
            progress = self.show(loaded)
            quiet = quiet + 1 if progress.settled else 0
            if quiet == 2:
                return progress
            if time.monotonic() > until:
                raise TimeoutError(f"not settled after {timeout:.0f} s: {progress}")
            time.sleep(_PAUSE)

    def show(self, loaded: str) -> Progress:
        """Look, and tell: what is `loaded`, and how much of it has been worked on."""
        progress = self.progress()
        waiting = progress.undelivered + progress.queued
        bar = "#" * round(30 * progress.applied / max(1, progress.applied + waiting))
        elapsed = time.monotonic() - self._started
        self._screen.progress(
            f"{loaded}  [{bar:<30}] {progress.applied:,} changes applied, {waiting:,} waiting, {elapsed:.0f} s"
        )
        return progress

    def _ask(self, part: str) -> dict[str, Any]:
        key = {"x-functions-key": self._endpoints["master_key"]} if part == "functions" else {}
        answer = self._session.get(self._endpoints[f"{part}_counters_url"], headers=key, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())


class _Sums:
    """Counters that go on where they were when the process that counts starts again at 0; what it counted between our last
    look and its end is lost."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._before: Counter[str] = Counter()

    def of(self, name: str, count: int) -> int:
        if count < self._seen[name]:
            self._before[name] += self._seen[name]
        self._seen[name] = count
        return self._before[name] + count
