"""The adaptive rule: tokens, the size of a batch, requests at once. Time is ours."""

import pytest

from connector.dataverse.odata import Response
from connector.dataverse.pace import BURST, LEAST, PEAK, RATE, SAVED, TARGET, Pace
from connector.dataverse.transport import FIRST_PARALLELISM, Pressure
from tests.stopwatch import Stopwatch


@pytest.fixture
def clock() -> Stopwatch:
    return Stopwatch()


def test_in_the_long_run_requests_leave_at_the_granted_rate(clock: Stopwatch) -> None:
    pace = Pace(clock, 20.0, 100)
    departures = 0
    while clock.now < 300:
        clock.now += pace.pause()
        pace.departed()
        departures += 1
    assert departures == pytest.approx(20 * (300 + SAVED), abs=2)


def test_what_was_saved_up_is_spent_a_third_faster(clock: Stopwatch) -> None:
    pace = Pace(clock, 15.0, 100)
    departures = 0
    while clock.now < 20:
        clock.now += pace.pause()
        pace.departed()
        departures += 1
    assert departures == pytest.approx(15 * PEAK * (20 + BURST), abs=2)


def test_an_unceasing_load_leaves_a_fifth_of_the_granted_requests_to_others() -> None:
    assert RATE * (300 + SAVED) <= 0.8 * 6000


def test_nobody_waits_longer_than_one_token(clock: Stopwatch) -> None:
    pace = Pace(clock, 20.0, 100)
    for _ in range(1000):  # full batches, which do not wait
        pace.departed()
    assert pace.pause() == pytest.approx(1 / 20)


def test_a_quiet_time_is_saved_up_to_the_burst_only(clock: Stopwatch) -> None:
    pace = Pace(clock, 20.0, 100)
    clock.now += 3600
    free = 0
    while not pace.pause():
        pace.departed()
        free += 1
    assert free == int(20 * PEAK * BURST)


def learn(pace: Pace, seconds: float, network: float, batches: int) -> None:
    """Full batches on an environment where an operation takes so many seconds, and each request the network's."""
    for _ in range(batches):
        pace.arrived(pace.room, pace.room * seconds + network)


@pytest.mark.parametrize(("seconds", "room"), [(0.0005, 100), (0.02, 47), (0.085, 11), (3.0, LEAST)])
def test_a_batch_grows_to_what_takes_the_time_it_should(clock: Stopwatch, seconds: float, room: int) -> None:
    pace = Pace(clock, 20.0, 100)
    assert pace.room == LEAST
    learn(pace, seconds, 0.06, 60)
    assert pace.room == pytest.approx(room, abs=1)
    learn(pace, 0.0005, 0.06, 60)
    assert pace.room == 100


def test_an_environment_that_becomes_slow_gets_small_batches_soon(clock: Stopwatch) -> None:
    pace = Pace(clock, 20.0, 100)
    learn(pace, 0.001, 0.06, 60)
    learn(pace, 0.2, 0.06, 3)
    assert pace.room <= 20


def test_an_answer_that_never_came_teaches_only_when_it_took_long(clock: Stopwatch) -> None:
    pace = Pace(clock, 20.0, 100)
    learn(pace, 0.01, 0.0, 60)
    before = pace.room
    pace.arrived(1, 0.001, answered=False)
    assert pace.room == before
    pace.arrived(before, 20 * TARGET, answered=False)
    assert pace.room < before / 2


def test_one_refusal_halves_what_goes_at_once_and_answers_bring_it_back(clock: Stopwatch) -> None:
    pressure = Pressure(clock)
    assert pressure.parallelism == FIRST_PARALLELISM
    answer = Response(200, {"x-ms-dop-hint": "16"}, b"")
    pressure.observe(answer)
    assert pressure.parallelism == 16
    refusal = Response(429, {"retry-after": "2"}, b"")
    for _ in range(16):  # those that were under way together
        pressure.observe(refusal)
    assert pressure.parallelism == 8
    clock.now = 3.0
    pressure.observe(refusal)
    assert pressure.parallelism == 4
    answers = 0
    while pressure.parallelism < 16:
        pressure.observe(answer)
        answers += 1
    assert 100 < answers < 140  # one more for each round of answers: 4 + 5 + ... + 15


def test_refusals_leave_at_least_one(clock: Stopwatch) -> None:
    pressure = Pressure(clock)
    for _ in range(20):
        pressure.observe(Response(429, {"retry-after": "1"}, b""))
        clock.now += 2
    assert pressure.parallelism == 1
