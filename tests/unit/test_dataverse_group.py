"""Group commit: who travels with whom, and that everybody gets their own answer."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from connector.dataverse import BadRequest, Create, Get, OutcomeUnknown, Transient
from connector.dataverse.group import GroupCommit, Unit
from connector.dataverse.odata import Part, Response
from connector.dataverse.transport import Pressure

FOREVER = 30.0
OPERATION = re.compile(r"(GET|POST|PATCH|DELETE) /api/data/v9\.2/(\S+) HTTP/1\.1")
CONTENT_ID = re.compile(r"Content-ID: (\d+)")


class Service:
    """Answers batches. While ``gate`` is closed, requests stay on their way."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[str]] = []
        self.lock = threading.Lock()
        self.running = self.most_running = 0
        self.refuses: Callable[[str], bool] = lambda path: False
        self.breaks: Callable[[list[str]], BaseException | None] = lambda paths: None
        self.cut = 0

    def __call__(self, part: Part, *, timeout: float) -> Response:
        assert part.body is not None
        assert ("Prefer", "odata.continue-on-error") in part.headers
        outer = part.body.partition("\r\n")[0]
        items = part.body.split(outer)[1:-1]
        paths = [path for _, path in OPERATION.findall(part.body)]
        with self.lock:
            self.batches.append(paths)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        assert self.gate.wait(FOREVER)
        with self.lock:
            self.running -= 1
        if error := self.breaks(paths):
            raise error
        body = "".join(f"--r\r\n{self.reply(item)}" for item in items) + "--r--\r\n"
        return Response(200, {"content-type": "multipart/mixed; boundary=r"}, body.encode()[: -self.cut or None])

    def reply(self, item: str) -> str:
        found = OPERATION.findall(item)
        if "multipart/mixed" not in item:
            return self.http(*found[0], "")
        answers = [
            self.http(*op, f"Content-ID: {n}\r\n") for op, n in zip(found, CONTENT_ID.findall(item), strict=True)
        ]
        failing = [answer for answer, (_, path) in zip(answers, found, strict=True) if self.refuses(path)]
        inside = "".join(f"--c\r\n{answer}" for answer in failing[:1] or answers)
        return f"Content-Type: multipart/mixed; boundary=c\r\n\r\n{inside}--c--\r\n"

    def http(self, method: str, path: str, more: str) -> str:
        status = 412 if self.refuses(path) else 200
        return f'Content-Type: application/http\r\n{more}\r\nHTTP/1.1 {status} X\r\n\r\n{{"path":"{path}"}}\r\n'


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(80) as executor:
        yield executor


def group_of(service: Service, *, rate: float = 1e6, slots: int = 1, **more: int) -> GroupCommit:
    return GroupCommit(service, Pressure(), clock=time.monotonic, slots=slots, rate=rate, **more)


def reads(*names: str) -> Unit:
    return Unit([Get(name).part() for name in names], atomic=False)


def change_set(*names: str) -> Unit:
    return Unit([Create(name, {}).part() for name in names], atomic=True)


def soon() -> float:
    return time.monotonic() + FOREVER


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + FOREVER
    while not condition():
        assert time.monotonic() < end, "never happened"
        threading.Event().wait(0.0005)


def paths(answers: list[Response]) -> list[str]:
    return [answer.json()["path"] for answer in answers]


def queue(group: GroupCommit, pool: ThreadPoolExecutor, *units: Unit) -> list[Future[list[Response]]]:
    """Submit in this order, each after the one before is in the queue."""
    futures = []
    for unit in units:
        before = group.waiting
        futures.append(pool.submit(group.submit, unit, soon()))
        until(lambda: group.waiting > before)  # noqa: B023
    return futures


def test_a_lonely_unit_travels_at_once_and_alone(service: Service) -> None:
    group = group_of(service, rate=0.001)  # no token for weeks: being alone must be enough
    for n in range(30):
        assert paths(group.submit(reads(f"a{n}"), soon())) == [f"a{n}"]
    assert service.batches == [[f"a{n}"] for n in range(30)]


def test_what_arrives_while_all_slots_are_taken_travels_together(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    others = queue(group, pool, change_set("b", "c"), reads("d"), change_set("e"))
    service.gate.set()
    assert paths(first.result()) == ["first"]
    assert [paths(other.result()) for other in others] == [["b", "c"], ["d"], ["e"]]
    assert service.batches == [["first"], ["b", "c", "d", "e"]]


def test_a_batch_is_bounded_and_a_unit_never_split(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service, max_operations=4)
    service.gate.clear()
    futures = [pool.submit(group.submit, reads("first"), soon())]
    until(lambda: service.running == 1)
    futures += queue(group, pool, change_set("b", "c"), reads("d"), change_set("e", "f"), change_set(*"ghijkl"))
    service.gate.set()
    for future in futures:
        future.result()
    assert service.batches == [["first"], ["b", "c", "d"], ["e", "f"], list("ghijkl")]


def test_a_batch_is_bounded_in_bytes(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    large = [Unit([Create(name, {"loy_explanation": "x" * 1_500_000}).part()], atomic=True) for name in "abc"]
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    futures = queue(group, pool, *large)
    service.gate.set()
    for future in (first, *futures):
        future.result()
    assert service.batches == [["first"], ["a", "b"], ["c"]]


def test_the_same_read_is_sent_once_and_answered_to_each(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    futures = queue(group, pool, reads("rule", "x"), change_set("w"), reads("y", "rule"), reads("rule"))
    service.gate.set()
    answers = [paths(future.result()) for future in futures]
    assert answers == [["rule", "x"], ["w"], ["y", "rule"], ["rule"]]
    assert service.batches[1] == ["rule", "x", "w", "y"]
    first.result()


def test_a_failing_change_set_is_nobody_elses_business(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    service.refuses = lambda path: path == "bad"
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    futures = queue(group, pool, change_set("a", "b"), change_set("c", "bad"), reads("d"))
    service.gate.set()
    good, bad, read = (future.result() for future in futures)
    assert [answer.status for answer in good] == [200, 200]
    assert [(answer.status, answer.headers["content-id"]) for answer in bad] == [
        (412, "2")
    ]  # 4 in the batch, 2 in the set
    assert paths(read) == ["d"]
    first.result()


def test_an_unreadable_batch_is_taken_apart(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    service.breaks = lambda paths: BadRequest("cannot read", status=400) if "poison" in paths else None
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    futures = queue(group, pool, change_set("a"), change_set("poison"), reads("d"))
    service.gate.set()
    assert paths(futures[0].result()) == ["a"]
    with pytest.raises(BadRequest, match="cannot read"):
        futures[1].result()
    assert paths(futures[2].result()) == ["d"]
    first.result()


def test_a_lost_answer_is_unknown_to_writers_and_transient_to_readers(
    service: Service, pool: ThreadPoolExecutor
) -> None:
    group = group_of(service)
    service.breaks = lambda paths: OutcomeUnknown("gone") if "first" not in paths else None
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    futures = queue(group, pool, change_set("a"), reads("b"), change_set("c"))
    service.gate.set()
    errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [OutcomeUnknown, Transient, OutcomeUnknown]
    assert len({id(error) for error in errors}) == 3
    first.result()


def test_a_short_answer_leaves_the_rest_unknown(service: Service) -> None:
    service.cut = 10
    with pytest.raises(OutcomeUnknown, match="ended early"):
        group_of(service).submit(change_set("a"), soon())


def test_a_leader_that_dies_takes_nobody_along(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    service.breaks = lambda paths: KeyError("bug") if paths == ["leader", "follower"] else None
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    leader, follower = queue(group, pool, change_set("leader"), change_set("follower"))
    service.gate.set()
    assert isinstance(leader.exception(), KeyError)
    assert isinstance(follower.exception(), OutcomeUnknown)
    first.result()
    assert paths(group.submit(reads("next"), soon())) == ["next"]


def test_a_unit_waits_for_a_slot_only_until_its_deadline(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service)
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    with pytest.raises(Transient, match="in time"):
        group.submit(change_set("late"), time.monotonic() + 0.01)
    service.gate.set()
    first.result()
    assert group.waiting == 0 and service.batches == [["first"]]


def test_everybody_honours_a_pause(service: Service, pool: ThreadPoolExecutor) -> None:
    pressure = Pressure()
    group = GroupCommit(service, pressure, clock=time.monotonic, slots=4)
    pressure.observe(Response(429, {"retry-after": "0.05"}, b""))
    free = time.monotonic() + 0.05
    futures = [pool.submit(group.submit, reads(f"r{n}"), soon()) for n in range(5)]
    for future in futures:
        future.result()
        assert time.monotonic() >= free - 0.005
    pressure.observe(Response(503, {"retry-after": "60"}, b""))
    pressure.observe(Response(429, {"retry-after": "1"}, b""))  # does not shorten the pause
    sent = len(service.batches)
    with pytest.raises(Transient) as caught:
        group.submit(reads("x"), time.monotonic() + 5)
    assert caught.value.retry_after is not None and 50 < caught.value.retry_after <= 60
    assert len(service.batches) == sent


@pytest.mark.parametrize(("slots", "hint", "most"), [(3, None, 3), (9, None, 4), (3, "2", 2), (3, "50", 3)])
def test_slots_follow_the_setting_and_the_recommendation(
    service: Service, pool: ThreadPoolExecutor, slots: int, hint: str | None, most: int
) -> None:
    pressure = Pressure()
    if hint:
        pressure.observe(Response(200, {"x-ms-dop-hint": hint}, b""))
    group = GroupCommit(service, pressure, clock=time.monotonic, slots=slots, max_operations=1)
    service.gate.clear()
    futures = [pool.submit(group.submit, reads(f"r{n}"), soon()) for n in range(12)]
    until(lambda: service.running == most and group.waiting == 12 - most)
    service.gate.set()
    for future in futures:
        future.result()
    assert service.most_running == most


def test_without_a_token_a_batch_waits_for_one_and_for_company(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service, slots=2, rate=1)
    service.gate.clear()
    first = pool.submit(group.submit, reads("first"), soon())
    until(lambda: service.running == 1)
    second = pool.submit(group.submit, reads("second"), soon())
    third = pool.submit(group.submit, reads("third"), soon())
    until(lambda: group.waiting == 1)  # one of the two boards, the other has joined
    assert service.batches == [["first"]]
    until(lambda: service.running == 2)  # the first is still on its way
    service.gate.set()
    for future in (first, second, third):
        future.result()
    assert sorted(service.batches[1]) == ["second", "third"]


def test_a_full_batch_does_not_wait_for_a_token(service: Service, pool: ThreadPoolExecutor) -> None:
    group = group_of(service, slots=2, rate=0.001, max_operations=4)
    service.gate.clear()
    futures = [pool.submit(group.submit, reads("first"), soon())]
    until(lambda: service.running == 1)
    futures += [pool.submit(group.submit, change_set(f"a{n}", f"b{n}"), soon()) for n in range(2)]
    until(lambda: service.running == 2)
    service.gate.set()
    for future in futures:
        future.result()
    assert sorted(map(len, service.batches)) == [1, 4]


def test_close_waits_for_those_on_their_way_and_leaves_no_thread(service: Service, pool: ThreadPoolExecutor) -> None:
    before = threading.active_count()
    group = group_of(service)
    service.gate.clear()
    futures = [pool.submit(group.submit, reads("first"), soon())]
    until(lambda: service.running == 1)
    futures += queue(group, pool, reads("second"))
    closing = pool.submit(group.close)

    def refused() -> bool:
        try:
            group.submit(reads("x"), time.monotonic())
        except RuntimeError:
            return True
        except Transient:
            return False
        raise AssertionError("it cannot have been sent")

    until(refused)
    assert not closing.done()
    service.gate.set()
    closing.result(FOREVER)
    assert [paths(future.result()) for future in futures] == [["first"], ["second"]]
    pool.shutdown()
    assert threading.active_count() <= before


def test_many_threads_each_get_their_own_answers(service: Service, pool: ThreadPoolExecutor) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    group = group_of(service, slots=3, max_operations=20)
    service.refuses = lambda path: path.startswith("bad")

    def customer(number: int) -> None:
        chance = random.Random(seed + number)
        for turn in range(15):
            names = [f"{chance.choice(['ok', 'ok', 'bad'])}{number}_{turn}_{n}" for n in range(chance.randint(1, 6))]
            if chance.random() < 0.5:
                assert paths(group.submit(reads(*names, "shared"), soon())) == [*names, "shared"]
                continue
            found = group.submit(change_set(*names), soon())
            failing = [name for name in names if name.startswith("bad")]
            assert paths(found) == (failing[:1] or names)
            if failing:
                assert found[0].headers["content-id"] == str(names.index(failing[0]) + 1)

    service.gate.clear()
    futures = [pool.submit(customer, number) for number in range(40)]
    until(lambda: group.waiting > 30)  # so that some share a batch, however fast the service is
    service.gate.set()
    for future in futures:
        future.result()
    assert max(map(len, service.batches)) <= 20
    assert len(service.batches) < 40 * 15


@pytest.mark.parametrize(("setting", "value"), [("slots", 0), ("rate", 0), ("max_operations", 1001)])
def test_settings_are_checked(service: Service, setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=setting):
        GroupCommit(service, Pressure(), clock=time.monotonic, **{setting: value})


def test_a_unit_needs_a_size() -> None:
    with pytest.raises(ValueError, match="at least one"):
        reads()
    with pytest.raises(ValueError, match="1001"):
        reads(*map(str, range(1001)))
