"""Fault dials: what goes wrong on purpose, how often, and in which order (seeded)."""

import random
import threading
from dataclasses import asdict, dataclass, fields
from typing import Any

from local.dataverse.errors import Fault


@dataclass(slots=True)
class Dials:
    """Probabilities are 0 to 1, delays in seconds."""

    seed: int = 0
    unavailable: float = 0.0  # 503 with Retry-After, before anything is done
    gateway: float = 0.0  # 502 without a body Dataverse would write
    throttled: float = 0.0  # 429 although no limit is reached
    sql_deadlock: float = 0.0  # a write fails with SQL error 1205, rolled back
    sql_timeout: float = 0.0  # a write fails with SQL time-out, rolled back
    connection_lost: float = 0.0  # the connection closes before anything is done
    answer_lost: float = 0.0  # everything is done and committed, but the connection closes without an answer
    delay: float = 0.0  # probability of a slow answer
    delay_seconds: float = 1.0
    event_duplicated: float = 0.0
    event_lost: float = 0.0
    event_reordered: float = 0.0  # share of deliveries that are shuffled
    event_delay_seconds: float = 0.0  # every event waits a random time up to this


class Faults:
    """Draws from the dials. `set` changes some of them; setting the seed starts the sequence again."""

    def __init__(self) -> None:
        self.dials = Dials()
        self.counts: dict[str, int] = {}
        self._random = random.Random(0)
        self._lock = threading.Lock()
        self.active = False

    def set(self, changes: dict[str, Any]) -> None:
        known = {field.name for field in fields(Dials)}
        for name, value in changes.items():
            if name not in known:
                raise Fault(400, "", f"There is no dial '{str(name)[:40]}'. Dials: {', '.join(sorted(known))}.")
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise Fault(400, "", f"The dial '{name}' needs a number that is not negative.")
            if not name.endswith("seconds") and name != "seed" and value > 1:
                raise Fault(400, "", f"The dial '{name}' is a probability: 0 to 1.")
        for name, value in changes.items():
            setattr(self.dials, name, int(value) if name == "seed" else float(value))
        if "seed" in changes:
            self._random = random.Random(self.dials.seed)
        self.active = self.dials != Dials(seed=self.dials.seed)

    def state(self) -> dict[str, Any]:
        return asdict(self.dials) | {"counts": dict(self.counts)}

    def strikes(self, name: str) -> bool:
        """Whether this fault happens now."""
        if not self.active:
            return False
        chance: float = getattr(self.dials, name)
        if not chance:
            return False
        with self._lock:
            struck = self._random.random() < chance
            if struck:
                self.counts[name] = self.counts.get(name, 0) + 1
        return struck

    def event_delay(self) -> float:
        if not self.active or not self.dials.event_delay_seconds:
            return 0.0
        with self._lock:
            return self._random.uniform(0, self.dials.event_delay_seconds)

    def shuffle(self, items: list[Any]) -> None:
        with self._lock:
            self._random.shuffle(items)

    def before_write(self) -> None:
        """Raises the SQL errors that a write may meet."""
        if not self.active:
            return
        if self.strikes("sql_deadlock"):
            raise Fault(500, "0x80044150", "Sql error: Generic SQL error. CRM ErrorCode: -2147204784 Sql ErrorCode: "
                                           "-2146232060 Sql Number: 1205")  # fmt: skip
        if self.strikes("sql_timeout"):
            raise Fault(500, "0x80044151", "Sql error: SQL timeout expired. CRM ErrorCode: -2147204783 Sql ErrorCode: "
                                           "-2146232060 Sql Number: -2")  # fmt: skip
