"""Knows when the stack has settled, and shows how far it is: asks the stand-ins' own counters."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import requests

_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """`undelivered` events are still inside Dataverse, `queued` messages on the queues, `running` calls in the app."""

    undelivered: int
    queued: int
    running: int
    heard: int
    applied: int
    dead: int

    @property
    def settled(self) -> bool:
        return not (self.undelivered or self.queued or self.running)


class Watch:
    def __init__(self, endpoints: dict[str, Any]) -> None:
        self._endpoints = endpoints
        self._session = requests.Session()
        self._session.trust_env = False  # a CA bundle from the environment would outrank ours
        self._session.verify = endpoints["ca_file"]
        self._started = time.monotonic()

    def counters(self, part: str) -> dict[str, Any]:
        """The admin counters of `dataverse`, `servicebus` or `functions`."""
        answer = self._session.get(self._endpoints[f"{part}_counters_url"], timeout=30)
        answer.raise_for_status()
        return dict(answer.json())

    def progress(self) -> Progress:
        dataverse, bus, functions = (self.counters(part) for part in ("dataverse", "servicebus", "functions"))
        ours = [bus["queues"][queue] for queue in ("dataverse-events", "loyalty-changes")]
        calls = functions["functions"]
        return Progress(
            undelivered=dataverse["outbox"],
            queued=sum(queue["active"] + queue["locked"] + queue["scheduled"] for queue in ours),
            running=functions["running"],
            heard=calls.get("DataverseEvent", {}).get("succeeded", 0),
            applied=calls.get("LoyaltyChange", {}).get("succeeded", 0),
            dead=sum(queue["dead_lettered"] for queue in ours),
        )

    def settle(self, loaded: str, timeout: float) -> Progress:
        """Wait until nothing is on its way any more, seen twice: a message may be between two places."""
        quiet = 0
        until = time.monotonic() + timeout
        while True:
            progress = self.progress()
            self.show(loaded, progress)
            quiet = quiet + 1 if progress.settled else 0
            if quiet == 2:
                return progress
            if time.monotonic() > until:
                raise TimeoutError(f"not settled after {timeout:.0f} s: {progress}")
            time.sleep(_PAUSE)

    def show(self, loaded: str, progress: Progress | None = None) -> None:
        """One line that changes in place on a terminal; nothing where output is kept."""
        if not sys.stderr.isatty():
            return
        progress = progress or self.progress()
        waiting = progress.undelivered + progress.queued
        done = progress.applied / max(1, progress.applied + waiting)
        bar = "#" * round(30 * done)
        elapsed = time.monotonic() - self._started
        text = f"{loaded}  [{bar:<30}] {progress.applied} changes applied, {waiting} waiting, {elapsed:.0f} s"
        print(f"\r{text:<110}", end="", file=sys.stderr, flush=True)
