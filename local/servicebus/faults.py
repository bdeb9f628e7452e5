"""Fault dials: how often the broker misbehaves as networks and services do.

No dial makes it break its word about an acknowledged message.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from local.servicebus.model.errors import ServerBusy


@dataclass(slots=True)
class Dials:
    """Rates are probabilities from 0 to 1."""

    drop_connection: float = 0.0  # per message or settlement that comes in: before it is handled, or before its answer
    lose_session_lock: float = 0.0  # per message delivered in a session
    server_busy: float = 0.0  # per sender or receiver attached, per message sent in
    delay_ms: float = 0.0  # added before what a connection says is written
    seed: int = 1


class Faults:
    def __init__(self, dials: Dials | None = None) -> None:
        self.set(dials or Dials())

    def set(self, dials: Dials) -> None:
        self.dials = dials
        self._random = random.Random(dials.seed)

    def strikes(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def tosses_heads(self) -> bool:
        return self._random.random() < 0.5

    def refuse_busy(self) -> None:
        """Raises ServerBusy, as often as the dial says."""
        if self.strikes(self.dials.server_busy):
            raise ServerBusy(
                "The request was terminated because the namespace is being throttled. Wait 2 seconds and try again."
            )


def dials_from(values: object) -> Dials:
    """Dials from a JSON object; those not named are 0. Raises ValueError with the name of a wrong one."""
    known = {field.name for field in fields(Dials)}
    if not isinstance(values, dict):
        raise ValueError("an object of dials is expected")
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown dial {name}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        most = float("inf") if name in ("delay_ms", "seed") else 1
        if not number or not 0 <= value <= most:
            raise ValueError(f"{name} must be a number from 0 to {most}")
    return Dials(**values)
