"""What goes wrong in a run. Swarm: a seed leaves each kind of fault out by a coin, so that none hides behind another."""

import random
from dataclasses import asdict, dataclass, fields


@dataclass(slots=True)
class Faults:
    """Rates are probabilities for each request, message or event, or (`every`) mean seconds between two; 0 is never."""

    event_lost: float = 0.0
    event_duplicated: float = 0.0
    event_reordered: float = 0.0
    event_delayed: float = 0.0
    event_trimmed: float = 0.0
    throttled: float = 0.0
    limits_scaled: float = 0.0
    unavailable: float = 0.0
    timed_out: float = 0.0
    answer_lost: float = 0.0
    connection_lost: float = 0.0
    sql_deadlock: float = 0.0
    outage_every: float = 0.0
    lock_lost_every: float = 0.0
    settlement_lost: float = 0.0
    send_lost: float = 0.0
    broker_killed_every: float = 0.0
    functions_killed_every: float = 0.0
    crash: float = 0.0
    clock_skew: float = 0.0
    dataverse_killed_every: float = 0.0
    entra_killed_every: float = 0.0
    bulk_killed: float = 0.0  # after one of the bulk calls of a mass job

    @property
    def on(self) -> list[str]:
        return [field.name for field in fields(self) if getattr(self, field.name)]

    def off(self) -> None:
        for field in fields(self):
            setattr(self, field.name, 0.0)


_RAGING = Faults(
    event_lost=0.08,
    event_duplicated=0.15,
    event_reordered=0.3,
    event_delayed=0.1,
    event_trimmed=0.15,
    throttled=0.05,
    limits_scaled=60.0,
    unavailable=0.05,
    timed_out=0.03,
    answer_lost=0.06,
    connection_lost=0.05,
    sql_deadlock=0.04,
    outage_every=240.0,
    lock_lost_every=6.0,
    settlement_lost=0.05,
    send_lost=0.05,
    broker_killed_every=120.0,
    functions_killed_every=25.0,
    crash=0.02,
    clock_skew=90.0,
    bulk_killed=0.2,
)

# On the processes of the local stack: what dials and SIGKILL can do, in real time.
REAL = Faults(
    event_lost=0.02,
    event_duplicated=0.1,
    event_reordered=0.3,
    event_delayed=0.1,
    throttled=0.02,
    unavailable=0.02,
    timed_out=0.02,
    answer_lost=0.02,
    connection_lost=0.02,
    sql_deadlock=0.02,
    lock_lost_every=6.0,
    settlement_lost=0.02,
    send_lost=0.02,
    broker_killed_every=60.0,
    functions_killed_every=25.0,
    dataverse_killed_every=60.0,
    entra_killed_every=60.0,
)


def swarm(seed: int, raging: Faults = _RAGING) -> Faults:
    """Half of the kinds, each at half to one and a half times its usual rate. Every twentieth seed has none."""
    chance = random.Random(f"{seed} faults")
    if seed % 20 == 0:
        return Faults()
    rates = {name: rate * chance.uniform(0.5, 1.5) * (chance.random() < 0.5) for name, rate in asdict(raging).items()}
    return Faults(**rates)
