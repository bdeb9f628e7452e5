"""Mass jobs on the local Dataverse in this process: every point is cancelled once, whatever happens in between."""

import argparse
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from requests import Response
from requests.adapters import BaseAdapter

from connector.audit import Audit
from connector.bus import Change, Subject
from connector.chores import Chores
from connector.commands import liability, mass
from connector.dataverse import Create, DataverseClient, Update
from connector.identity import Customer, derived_id
from connector.loyalty.program import Program
from connector.mass import BadOrder, MassJobs, Order, Progress, read, set_status, start, work, worker
from connector.mass.whatif import changed
from connector.rows import ledger
from connector.rows.choices import BulkKind, BulkStatus, NoticeStatus
from connector.rows.programs import Programs, read_program
from tests.office import Office
from tests.stopwatch import Stopwatch
from tests.town import NOW, Resident, residents, settle_in
from tests.unit.loyalty_book import TIERED

LEASE = 60.0


class Queue:
    """Takes messages; `full` after some."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.room = 10**9
        self.refused = 0

    def send(self, messages: Sequence[Any]) -> None:
        if len(self.messages) + len(messages) > self.room:
            self.refused += 1
            raise ConnectionError("the queue is full")
        self.messages += messages


class Town:
    """An office with residents, and a clock that is moved by hand."""

    def __init__(self, home: Path) -> None:
        self.moment = NOW
        self.office = Office(home, clock=self.now)
        self.client = self.office.client
        self.program: Program = read_program(self.client, "CJ")
        self.seed = 0
        self.notices = Queue()

    def now(self) -> datetime:
        return self.moment

    def settle(self, count: int, **more: float) -> list[Resident]:
        self.seed += 1
        people = residents(count, self.seed, **more)
        settle_in(self.client, self.program, people)
        self.office.events()
        return people

    def start(self, kind: BulkKind = BulkKind.EXPIRY, **more: Any) -> str:
        return start(self.client, Order(kind, self.moment.date(), **more), self.now)

    def work(self, run_id: str, client: DataverseClient | None = None, **more: Any) -> Progress:
        more = {"page": 20, "lanes": 2, "lease": LEASE} | more
        sent = self.office.sent.extend
        program = more.pop("program", self.program)
        tell = more.pop("notify", self.notices.send)
        return work(run_id, [client or self.client], program, sent, tell, clock=self.now, **more)

    def points(self, customer: Customer) -> tuple[int, int]:
        """On the membership and on the customer."""
        member = self.client.get(f"loy_memberships({customer.membership_id})?$select=loy_balance")
        shown = self.client.get(f"{customer.entity_set}({customer.id})?$select=loy_pointsbalance")
        return member["loy_balance"], shown["loy_pointsbalance"]

    def holds(self) -> None:
        report = Audit(self.client, self.program, self.now()).run()
        assert report.holds, report.violations[:10]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town"))
    yield made
    made.office.close()


@pytest.fixture
def town(shared: Town) -> Town:
    """One town for all tests: each settles people of its own, and leaves nobody behind who is due."""
    shared.office.sent.clear()
    return shared


class Crash(BaseException):
    """The process is gone: nothing it does afterwards reaches Dataverse."""


class Meddler(BaseAdapter):
    """Stands before Dataverse: `before` and `after` hear of each request; whatever they raise ends it."""

    def __init__(
        self,
        behind: BaseAdapter,
        before: Callable[[Any], None] = lambda request: None,
        after: Callable[[Any], None] = lambda request: None,
    ) -> None:
        super().__init__()
        self._behind = behind
        self._before = before
        self._after = after
        self._lock = threading.Lock()

    def send(self, request: Any, **more: Any) -> Any:  # type: ignore[override]
        with self._lock:
            self._before(request)
        answer = self._behind.send(request, **more)
        with self._lock:
            self._after(request)
        return answer

    def close(self) -> None:
        pass


def meddled(town: Town, **hears: Callable[[Any], None]) -> DataverseClient:
    return town.office.client_of(derived_id("test", "meddled"), lambda adapter: Meddler(adapter, **hears))


def expected(people: list[Resident]) -> tuple[int, int]:
    due = [resident for resident in people if resident.gone]
    return len(due), sum(resident.gone for resident in due)


def done(progress: Progress) -> tuple[int, int]:
    return progress.totals.done, progress.totals.points


def outstanding(progress: Progress, what: str) -> int:
    """Points of the customers that a run has visited, `before` or `after` it."""
    return sum(points for (figure, _, _), points in progress.figures.items() if figure == what)


def test_points_whose_day_has_passed_are_cancelled(town: Town) -> None:
    people = town.settle(150)
    progress = town.work(town.start(), page=50)
    totals = progress.totals
    assert progress.status is BulkStatus.DONE
    assert done(progress) == expected(people)
    assert (totals.selected, totals.failed, totals.second_round) == (totals.done, 0, 0)
    for resident in people:
        assert town.points(resident.customer) == (resident.state.balance - resident.gone,) * 2
    town.holds()
    assert town.work(town.start()).totals.selected == 0


def survived(town: Town, run_id: str, k: int, moment: str, **more: Any) -> tuple[Progress, bool]:
    """A run whose first worker dies at the k-th request, if there are so many: who comes after the lease finishes it."""
    requests = 0

    def count(request: Any) -> None:
        nonlocal requests
        requests += 1
        if requests >= k:
            raise Crash

    try:
        return town.work(run_id, meddled(town, **{moment: count}), lanes=1, worker="one", **more), requests >= k
    except Crash:
        town.moment += timedelta(seconds=LEASE + 1)
        return town.work(run_id, worker="two", **more), True


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_request_loses_and_repeats_nothing(town: Town, moment: str) -> None:
    for k in range(1, 200):
        people = town.settle(8, due=0.9)
        first, died = survived(town, town.start(), k, moment, page=4)
        assert first.status is BulkStatus.DONE
        assert done(first) == expected(people), f"crash {moment} request {k}"
        before = sum(person.state.balance for person in people if person.gone)
        assert (outstanding(first, "before"), outstanding(first, "after")) == (before, before - first.totals.points), k
        if not died:
            break
    else:
        pytest.fail("the run never came to its end")
    assert k > 12
    town.holds()


def redeem(town: Town, customer: Customer, points: int) -> dict[str, Any]:
    """A clerk's redemption, decided at once; the row as it was answered."""
    wish = str(uuid4())
    bind = {f"loy_CustomerId_{customer.table}@odata.bind": f"/{customer.entity_set}({customer.id})"}
    row = {"loy_redemptionid": wish, "loy_requestid": wish, "loy_name": "R", "loy_points": points, **bind}
    town.client.commit([Create("loy_redemptions", row)])
    town.office.work(town.office.events())
    columns = "loy_status,loy_transactioncode,loy_reason,loy_reasoncode,loy_balanceafter"
    found: dict[str, Any] = town.client.get(f"loy_redemptions({wish})?$select={columns}")
    return found


def spender(people: list[Resident]) -> Resident:
    """Somebody whose points expire in part."""
    return max((person for person in people if person.gone), key=lambda person: person.state.balance - person.gone)


@pytest.mark.parametrize("call", ["loy_entries/", "accounts/", "contacts/", "loy_memberships/"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_redemption_in_the_middle_keeps_its_points_and_no_copy_stays_stale(
    town: Town, call: str, moment: str
) -> None:
    people = town.settle(40)
    clerk = spender(people)
    answers = []

    def meddle(request: Any) -> None:
        if not answers and f"/{call}Microsoft.Dynamics.CRM." in request.url:
            answers.append({})
            answers[0] |= redeem(town, clerk.customer, 100)

    progress = town.work(town.start(), meddled(town, **{moment: meddle}), lanes=1, page=100)
    assert answers[0]["loy_transactioncode"]
    assert progress.totals.failed == progress.totals.second_round == 0
    assert done(progress) == expected(people)
    left = clerk.state.balance - clerk.gone - 100
    assert town.points(clerk.customer) == (left, left)
    first = (call, moment) == ("loy_entries/", "before")
    assert (progress.totals.conflicts, progress.totals.rewritten) == (first, not first)
    town.holds()


def test_who_does_not_stay_still_is_decided_in_their_session(town: Town) -> None:
    people = town.settle(40)
    clerk = spender(people)

    def meddle(request: Any) -> None:
        ours = str(request.body or "").count(clerk.customer.membership_id)
        if ours and "/loy_entries/Microsoft" in request.url:
            assert redeem(town, clerk.customer, 100)["loy_transactioncode"]

    progress = town.work(town.start(), meddled(town, before=meddle), lanes=1, page=100)
    assert progress.totals.second_round == 1
    assert progress.totals.done == expected(people)[0] - 1
    assert [change.customer for change in town.office.sent] == [str(clerk.customer)]
    town.office.work([])
    assert town.points(clerk.customer)[0] == town.points(clerk.customer)[1] < clerk.state.balance - clerk.gone
    town.holds()


def found_alone(person: Resident) -> str:
    """FetchXML that finds one customer."""
    table = person.customer.table
    return (
        f"<fetch><entity name='{table}'><filter><condition attribute='{table}id' operator='eq'"
        f" value='{person.customer.id}'/></filter></entity></fetch>"
    )


def test_who_is_settled_first_is_decided_behind_what_waits_for_them(town: Town) -> None:
    people = town.settle(40)
    due = [person for person in people if person.gone]
    first = next(person for person in due if person.customer.table == "account")
    fetch = found_alone(first)
    dry = town.work(town.start(settle_first=fetch, dry_run=True))
    assert done(dry) == expected(people)
    assert not town.office.sent
    progress = town.work(town.start(settle_first=fetch))
    assert (progress.totals.done, progress.totals.second_round) == (len(due) - 1, 1)
    assert town.points(first.customer) == (first.state.balance, first.state.balance)
    assert [change.session for change in town.office.sent] == [str(first.customer)]
    town.office.work([])
    left = first.state.balance - first.gone
    assert town.points(first.customer) == (left, left)
    wrong = town.start(settle_first="<fetch><entity name='invoice'/></fetch>")
    with pytest.raises(BadOrder, match="loy_settlefirst: it must look for"):
        town.work(wrong)
    set_status(town.client, wrong, BulkStatus.CANCELLED, town.now)
    town.holds()


def test_a_run_is_paused_resumed_and_cancelled(town: Town) -> None:
    people = town.settle(120)
    run_id = town.start()
    pauses = 0

    def pause(progress: Progress) -> None:
        nonlocal pauses
        if progress.totals.done and not pauses:
            pauses += 1
            set_status(town.client, run_id, BulkStatus.PAUSED, town.now)

    paused = town.work(run_id, lanes=1, progress=pause)
    assert paused.status is BulkStatus.PAUSED
    assert 0 < paused.totals.done < expected(people)[0]
    assert town.work(run_id).totals == paused.totals  # whoever comes now, leaves again
    set_status(town.client, run_id, BulkStatus.RUNNING, town.now)
    assert done(town.work(run_id)) == expected(people)
    with pytest.raises(BadOrder, match="has ended"):
        set_status(town.client, run_id, BulkStatus.CANCELLED, town.now)

    town.settle(60)
    second = town.start()
    stopped = town.work(second, lanes=1, stop=lambda: read(town.client, second).totals.done > 0)
    assert (stopped.status, stopped.totals.done > 0) == (BulkStatus.RUNNING, True)
    set_status(town.client, second, BulkStatus.CANCELLED, town.now)
    assert town.work(second).status is BulkStatus.CANCELLED
    assert town.client.get(f"loy_bulkruns({second})?$select=loy_endedon")["loy_endedon"]
    town.work(town.start())
    town.holds()


def refusal(request: Any, status: int, code: str) -> Response:
    refused = Response()
    refused.status_code, refused.request, refused.url = status, request, request.url
    refused.headers["content-type"] = "application/json"
    refused._content = json.dumps({"error": {"code": code, "message": "not this"}}).encode()
    return refused


class Narrow(BaseAdapter):
    """Stands before Dataverse and refuses bulk calls with more than thirty rows."""

    def __init__(self, behind: BaseAdapter, status: int, code: str) -> None:
        super().__init__()
        self._behind = behind
        self._status = status
        self._code = code
        self.refused = 0

    def send(self, request: Any, **more: Any) -> Response:  # type: ignore[override]
        rows = len(json.loads(request.body)["Targets"]) if "Multiple" in request.url else 0
        if rows <= 30:
            return self._behind.send(request, **more)
        self.refused += 1
        return refusal(request, self._status, self._code)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("status", "code"), [(413, "0x8004418a"), (500, "0x80044151")])
def test_calls_that_are_too_large_are_divided(town: Town, status: int, code: str) -> None:
    people = town.settle(160)
    narrow: list[Narrow] = []

    def between(adapter: BaseAdapter) -> BaseAdapter:
        narrow.append(Narrow(adapter, status, code))
        return narrow[0]

    client = town.office.client_of(derived_id("test", f"narrow {status}"), between)
    progress = town.work(town.start(), client, lanes=1, page=100)
    assert (done(progress), progress.totals.failed) == (expected(people), 0)
    assert narrow[0].refused
    town.holds()


def test_two_workers_share_a_run(town: Town) -> None:
    people = town.settle(200)
    run_id = town.start()
    visited: dict[str, set[int]] = {"one": set(), "two": set()}
    ends: list[Progress] = []
    meet = threading.Barrier(2)

    def run(name: str) -> None:
        def progress(found: Progress) -> None:
            visited[name].add(found.totals.done)

        meet.wait()
        ends.append(town.work(run_id, meddled(town), worker=name, progress=progress, page=10))

    threads = [threading.Thread(target=run, args=(name,)) for name in visited]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [end.status for end in ends] == [BulkStatus.DONE] * 2
    assert done(read(town.client, run_id)) == expected(people)
    town.holds()


def test_a_dry_run_says_what_the_run_then_does(town: Town) -> None:
    people = town.settle(100)
    before = town.client.get("loy_entries?$select=loy_sequence")
    dry = town.work(town.start(dry_run=True))
    assert len(town.client.get("loy_entries?$select=loy_sequence")) == len(before)
    real = town.work(town.start())
    assert dry.totals.notices == 0
    assert (dry.totals, dry.figures) == (replace(real.totals, notices=0), real.figures)
    assert done(real) == expected(people)
    gone = sum(points for (what, _, _), points in real.figures.items() if what == "cancelled")
    assert gone == real.totals.points
    assert outstanding(real, "before") - outstanding(real, "after") == real.totals.points


def test_customers_of_a_view_are_left_alone(town: Town) -> None:
    people = town.settle(60)
    due = [person for person in people if person.gone]
    spared = next(person.customer for person in due if person.customer.table == "account")
    fetch = (
        f"<fetch><entity name='account'><attribute name='name'/><filter><condition attribute='accountid' operator='eq'"
        f" value='{spared.id}'/></filter></entity></fetch>"
    )
    view = {"name": "Open cases", "returnedtypecode": "account", "querytype": 0, "fetchxml": fetch}
    view_id = town.client.request("POST", "savedqueries", view).headers["odata-entityid"][-37:-1]
    progress = town.work(town.start(exclude=view_id))
    assert (progress.totals.excluded, progress.totals.done) == (1, len(due) - 1)

    again = town.work(town.start(exclude=fetch))
    assert (again.totals.selected, again.totals.excluded) == (1, 1)
    wrong = town.start(exclude="<fetch><entity name='invoice'/></fetch>")
    with pytest.raises(BadOrder, match="it must look for accounts, contacts or memberships, not invoice"):
        town.work(wrong)
    assert (read(town.client, wrong).status, read(town.client, wrong).message[:11]) == (
        BulkStatus.FAILED,
        "loy_exclude",
    )
    town.client.commit([Update(f"loy_bulkruns({wrong})", {"loy_exclude": None})])
    resumed = set_status(town.client, wrong, BulkStatus.RUNNING, town.now)
    assert (resumed.status, resumed.message) == (BulkStatus.RUNNING, "")
    assert town.work(wrong).totals.done == 1
    town.holds()


def test_points_earned_lately_live_on(town: Town) -> None:
    people = town.settle(60)  # all points came a hundred days ago
    progress = town.work(town.start(spare_days=120))
    assert progress.totals.points == 0
    for person in people:
        member = town.client.get(ledger.membership_path(person.customer))
        lots = ledger.membership_of(person.customer, member).state.lots
        assert sum(lots.values()) == person.state.balance
        assert min(lots) >= town.now().date()
    town.moment += timedelta(days=21)
    later = town.work(town.start())
    assert later.totals.points == expected(people)[1]
    town.holds()


def test_a_run_does_not_look_into_the_future(town: Town) -> None:
    with pytest.raises(BadOrder, match="has not come yet"):
        start(town.client, Order(BulkKind.EXPIRY, town.now().date() + timedelta(days=1)), town.now)


def test_a_broken_ledger_and_an_unreadable_row_are_listed_and_stop_nobody(
    town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    people = town.settle(60)
    due = [person for person in people if person.gone]
    broken = next(person.customer for person in due if len(person.entries) > 1)
    unreadable = next(person.customer for person in due if person.customer != broken)
    state = town.client.get(ledger.membership_path(unreadable))["loy_state"]
    town.client.commit([Update(f"loy_memberships({unreadable.membership_id})", {"loy_state": "{"})])
    # behind its ledger, and on another history
    town.client.commit([Update(f"loy_memberships({broken.membership_id})", {"loy_sequence": 1, "loy_lasthash": "00"})])
    run_id = town.start()
    progress = town.work(run_id)
    assert (progress.totals.failed, progress.totals.done) == (2, expected(people)[0] - 2)
    log = town.client.get(
        f"loy_integrationlogs?$select=loy_customerkey,loy_reasonclass&$filter=loy_correlationid eq '{run_id}'"
    )
    assert {row["loy_customerkey"]: row["loy_reasonclass"] for row in log} == {
        str(broken): "ledger_broken",
        str(unreadable): "unreadable",
    }
    assert command(town, "status", run_id) == 1
    assert f"2 parked in the integration log, with the reasons: correlation id {run_id}" in capsys.readouterr().out
    town.client.commit([Update(f"loy_memberships({unreadable.membership_id})", {"loy_state": state})])
    audit = Audit(town.client, town.program, town.now(), repair=True)
    audit.run()
    assert town.work(town.start()).totals.done == 2
    town.holds()


def test_a_hold_refuses_redemptions_while_it_lasts_and_ends_by_itself(town: Town) -> None:
    people = town.settle(40)
    clerk = spender(people)
    answers = []

    def meddle(request: Any) -> None:
        if not answers and "/loy_entries/Microsoft" in request.url:
            answers.append({})
            answers[0] |= redeem(town, clerk.customer, 100)

    progress = town.work(town.start(hold=True), meddled(town, before=meddle), lanes=1, page=100)
    assert answers[0]["loy_reasoncode"] == "held"
    assert "Try again in a minute" in answers[0]["loy_reason"]
    assert done(progress) == expected(people)
    assert redeem(town, clerk.customer, 100)["loy_transactioncode"]

    others = town.settle(20)
    held = spender(others).customer

    gone = False

    def crash(request: Any) -> None:
        nonlocal gone
        gone = gone or "/loy_entries/Microsoft" in request.url
        if gone:
            raise Crash

    run_id = town.start(hold=True)
    with pytest.raises(Crash):
        town.work(run_id, meddled(town, before=crash), lanes=1, page=100, worker="one")
    assert redeem(town, held, 100)["loy_reasoncode"] == "held"
    town.moment += timedelta(minutes=11)
    assert redeem(town, held, 100)["loy_transactioncode"]
    assert done(town.work(run_id, worker="two")) == expected(others)
    town.holds()


def test_a_review_moves_tiers_ratings_and_the_next_day(town: Town) -> None:
    """Everybody is SILVER by a spend that the ledger holds; the what-if says so first, the run then does it."""
    people = town.settle(30, due=0.0)
    program = everybody_silver(town)
    dry = town.work(town.start(BulkKind.RULES, dry_run=True), program=program)
    moved = {tier: n for (what, tier, _), n in dry.figures.items() if what == "moved"}
    real = town.work(town.start(BulkKind.RULES), program=program)
    assert moved == {"BASE>SILVER": real.totals.done}
    assert real.figures == dry.figures
    account = next(person.customer for person in people if person.customer.table == "account")
    shown = town.client.get(f"accounts({account.id})?$select=loy_tiername,accountratingcode")
    assert (shown["loy_tiername"], shown["accountratingcode"]) == ("Silver", 482100000)
    back = town.work(town.start(BulkKind.RULES))
    assert {tier for what, tier, _ in back.figures if what == "moved"} == {"SILVER>BASE"}
    shown = town.client.get(f"accounts({account.id})?$select=loy_tiername,accountratingcode")
    assert (shown["loy_tiername"], shown["accountratingcode"]) == ("Base", 1)
    assert town.work(town.start(BulkKind.REVIEW)).totals.selected == 0
    town.holds()


def everybody_silver(town: Town) -> Program:
    return changed(town.program, ["SILVER.minimum_spend=0", "GOLD.minimum_spend=9999999"])


def ratings(town: Town, people: list[Resident]) -> dict[Customer, tuple[int | None, int | None, bool]]:
    """Of accounts: the rating, the one that we know to have written, and whether it is taken as set by hand."""
    found = {}
    for customer in (person.customer for person in people if person.customer.table == "account"):
        account = town.client.get(f"accounts({customer.id})?$select=accountratingcode")
        member = town.client.get(
            f"loy_memberships({customer.membership_id})?$select=loy_writtenrating,loy_ratingoverride"
        )
        found[customer] = (account["accountratingcode"], member["loy_writtenrating"], member["loy_ratingoverride"])
    return found


@pytest.fixture
def village(tmp_path: Path) -> Iterator[Town]:
    """A town of its own, for runs that visit everybody again and again."""
    made = Town(tmp_path)
    yield made
    made.office.close()


def test_a_rating_is_known_as_ours_wherever_a_worker_dies(village: Town) -> None:
    """Or it would pass for one set by hand when the tier changes next, and never change again."""
    town, silver, people = village, everybody_silver(village), village.settle(8, due=0.0)
    for k in range(1, 60):
        _, died = survived(town, town.start(BulkKind.RULES), k, "after", page=100, program=silver)
        assert set(ratings(town, people).values()) == {(482100000, 482100000, False)}, k
        town.work(town.start(BulkKind.RULES))
        assert {rating for rating, _, _ in ratings(town, people).values()} == {1}, k
        if not died:
            break
    else:
        pytest.fail("the run never came to its end")
    assert k > 8
    town.holds()


def test_another_rating_of_a_tier_reaches_every_account_that_holds_it(village: Town) -> None:
    town, silver, people = village, everybody_silver(village), village.settle(8, due=0.0)
    town.work(town.start(BulkKind.RULES), program=silver)
    tiers = tuple(replace(tier, rating_code=482100002) if tier.code == "SILVER" else tier for tier in silver.tiers)
    reads: list[str] = []

    def note(request: Any) -> None:
        reads.extend(line for line in str(request.body).split("\\r\\n") if "accounts?$select=accountratingcode" in line)

    for expected in (1, 0):  # accounts are looked at once
        reads.clear()
        town.work(
            town.start(BulkKind.RULES),
            meddled(town, before=note),
            program=replace(silver, tiers=tiers),
            lanes=1,
            page=100,
        )
        assert set(ratings(town, people).values()) == {(482100002, 482100002, False)}
        assert len(reads) == expected


def test_a_rating_that_a_session_writes_meanwhile_does_not_pass_for_one_set_by_hand(village: Town) -> None:
    town, people, other = village, village.settle(8, due=0.0), 482100002
    rated = next(person.customer for person in people if person.customer.table == "account")
    tries = 0

    def a_session_rates(request: Any) -> None:
        nonlocal tries
        if "accounts?$select=accountratingcode" in str(request.body) and not tries:
            tries += 1
            town.client.commit(
                [
                    Update(f"loy_memberships({rated.membership_id})", {"loy_writtenrating": other}),
                    Update(f"accounts({rated.id})", {"accountratingcode": other}),
                ]
            )

    client = meddled(town, before=a_session_rates)
    town.work(town.start(BulkKind.RULES), client, lanes=1, page=100, program=everybody_silver(town))
    assert tries
    assert set(ratings(town, people).values()) == {(482100000, 482100000, False)}


def test_a_rating_set_by_hand_while_a_run_is_about_to_write_it_stays(village: Town) -> None:
    town, people, by_hand = village, village.settle(12, due=0.0), 482100002
    rated = next(person.customer for person in people if person.customer.table == "account")
    tries = 0

    def somebody_rates(request: Any) -> None:
        nonlocal tries
        if b'"accountratingcode"' in (request.body or b"") and not tries:
            tries += 1
            town.client.commit([Update(f"accounts({rated.id})", {"accountratingcode": by_hand})])

    town.work(
        town.start(BulkKind.RULES),
        meddled(town, before=somebody_rates),
        lanes=1,
        page=100,
        program=everybody_silver(town),
    )
    assert tries
    found = ratings(town, people)
    assert found.pop(rated) == (by_hand, None, True)
    assert set(found.values()) == {(482100000, 482100000, False)}
    town.work(town.start(BulkKind.RULES))
    town.holds()


def test_a_wish_that_is_wrong_is_named() -> None:
    for wish, fault in (
        ("GOLD", "is expected"),
        ("TIN.minimum_spend=1", "no tier TIN"),
        ("GOLD.minimum_spend=x", "not a number"),
    ):
        with pytest.raises(ValueError, match=fault):
            changed(TIERED, [wish])


def test_a_row_that_an_administrator_makes_is_worked_on_by_the_timer(town: Town) -> None:
    people = town.settle(20)
    jobs = MassJobs(
        [town.client, meddled(town)], Programs(town.client, "CJ"), town.office.sent.extend, town.notices.send, town.now
    )
    run_id, empty, early = (str(uuid4()) for _ in range(3))
    row = {"loy_kind": BulkKind.EXPIRY.value, "loy_status": BulkStatus.RUNNING.value}
    tomorrow = town.now().date() + timedelta(days=1)
    town.client.commit(
        [
            Create("loy_bulkruns", row | {"loy_bulkrunid": empty, "loy_name": "No date"}),
            Create("loy_bulkruns", row | {"loy_bulkrunid": early, "loy_name": "Too early", "loy_asof": tomorrow}),
            Create(
                "loy_bulkruns", row | {"loy_bulkrunid": run_id, "loy_name": "Year's end", "loy_asof": town.now().date()}
            ),
        ]
    )
    (progress,) = jobs.work_all(stop=lambda: False)
    assert (progress.run_id, done(progress)) == (run_id, expected(people))
    assert read_message(town, empty) == "loy_asof: a run needs a date"
    assert read_message(town, early).startswith(f"loy_asof: {tomorrow} has not come yet")
    assert list(jobs.work_all(stop=lambda: False)) == []


def read_message(town: Town, run_id: str) -> str:
    row = town.client.get(f"loy_bulkruns({run_id})?$select=loy_message,loy_status")
    assert row["loy_status"] == BulkStatus.FAILED
    return str(row["loy_message"])


def test_notices_follow_the_entries_page_by_page_and_are_confirmed(town: Town) -> None:
    people = town.settle(30)
    queue = Queue()
    queue.room = expected(people)[0] // 2
    run_id = town.start(template="Goodbye")
    refused = town.work(run_id, notify=queue.send, lanes=1, page=5, stop=lambda: queue.refused > 0)
    assert refused.status is BulkStatus.RUNNING
    assert 0 < refused.totals.notices == len(queue.messages) <= queue.room
    queue.room = 10**9
    town.moment += timedelta(seconds=LEASE + 1)
    ended = town.work(run_id, notify=queue.send)
    told = {body["customer"]: body for body in (json.loads(str(message)) for message in queue.messages)}
    assert {key: (body["kind"], body["points"], body["balance"], body["template"]) for key, body in told.items()} == {
        str(person.customer): ("expire", -person.gone, person.state.balance - person.gone, "Goodbye")
        for person in people
        if person.gone
    }
    assert ended.totals.notices == len(told) == len(queue.messages)
    for message in queue.messages:
        row = town.client.get(f"loy_entries({message.message_id})?$select=loy_noticestatus,loy_occurredon")
        assert (row["loy_noticestatus"], row["loy_occurredon"]) == (
            NoticeStatus.RUN,
            json.loads(str(message))["occurred_on"],
        )
    chores = Chores(town.client, town.office.sent.extend, town.now)
    waiting = Queue()
    chores.send_notices(waiting)  # type: ignore[arg-type]
    assert not {message.message_id for message in queue.messages} & {message.message_id for message in waiting.messages}

    town.settle(10)
    quiet = town.work(town.start(notices=False), notify=queue.send)
    assert (quiet.totals.done > 0, quiet.totals.notices, len(queue.messages)) == (True, 0, len(told))


def test_while_a_queue_refuses_a_page_is_tried_every_other_second(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Stopwatch()
    monkeypatch.setattr(worker, "time", clock)
    people = town.settle(10)
    queue = Queue()

    def send(messages: Sequence[Any]) -> None:
        queue.room = 0 if clock.now < 20 else 10**9
        queue.send(messages)

    ended = town.work(town.start(), notify=send, lanes=1, stop=lambda: queue.refused > 50)
    assert (ended.status, ended.totals.notices) == (BulkStatus.DONE, expected(people)[0])
    assert 5 <= queue.refused <= 10


def test_a_crash_repeats_notices_of_one_page_under_the_same_ids(town: Town) -> None:
    people = town.settle(30)
    queue = Queue()
    run_id = town.start()

    def crash(messages: Any) -> None:
        queue.send(messages)
        raise Crash

    with pytest.raises(Crash):
        town.work(run_id, notify=crash, lanes=1, page=5, worker="one")
    set_status(town.client, run_id, BulkStatus.RUNNING, town.now)
    repeated = len(queue.messages)
    town.moment += timedelta(seconds=LEASE + 1)
    ended = town.work(run_id, notify=queue.send, page=5, worker="two")
    ids = [message.message_id for message in queue.messages]
    assert 0 < repeated <= 5
    assert ended.totals.notices == len(set(ids)) == len(ids) - repeated == expected(people)[0]


def overtaken(town: Town, run_id: str, k: int) -> tuple[Progress, int]:
    """A worker stands still before it writes entries, another takes its part over, and the first goes on at the other's
    k-th request. How the run ends, and how many requests the other made."""
    then = town.moment
    stands, goes = threading.Event(), threading.Event()
    requests = 0

    def stand(request: Any) -> None:
        if "/loy_entries/Microsoft" in request.url and not stands.is_set():
            stands.set()
            assert goes.wait(60)

    def slow() -> None:
        sent = (town.office.sent.extend, town.notices.send)
        more: dict[str, Any] = {"lanes": 1, "page": 4, "lease": LEASE, "worker": "slow", "stop": goes.is_set}
        work(run_id, [meddled(town, before=stand)], town.program, *sent, clock=lambda: then, **more)

    def release(request: Any) -> None:
        nonlocal requests
        requests += 1
        if requests == k:
            goes.set()
            thread.join()

    thread = threading.Thread(target=slow)
    thread.start()
    assert stands.wait(60)
    town.moment += timedelta(seconds=LEASE + 1)
    end = town.work(run_id, meddled(town, before=release), lanes=1, page=500, worker="quick")
    goes.set()
    thread.join()
    return end, requests


def test_who_lost_the_lease_and_writes_on_is_counted(town: Town) -> None:
    for k in range(1, 100):
        people = town.settle(6, due=0.9)
        end, requests = overtaken(town, town.start(), k)
        assert end.status is BulkStatus.DONE
        assert done(end) == expected(people), f"request {k}"
        assert end.totals.entries == end.totals.notices == end.totals.done
        if requests < k:
            break
    assert k > 12
    town.holds()


def command(town: Town, *arguments: str) -> int:
    """As `connector mass ...` and `connector liability` would be answered."""
    parser = argparse.ArgumentParser()
    module = liability if arguments[0] == "liability" else mass
    module.options(parser)
    jobs = MassJobs([town.client], Programs(town.client, "CJ"), town.office.sent.extend, town.notices.send, town.now)
    app: Any = SimpleNamespace(client=town.client, mass=jobs, programs=jobs.programs, now=town.now)
    return module.run(app, parser.parse_args(arguments[1:] if module is liability else list(arguments)))


def test_commands(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    people = town.settle(20)

    def liable() -> int:
        assert command(town, "liability", "--json") == 0
        return sum(n for months in json.loads(capsys.readouterr().out).values() for n in months.values())

    before = liable()
    assert command(town, "what-if", "expiry") == 0
    assert f"{expected(people)[1]} points cancelled" in capsys.readouterr().out
    assert liable() == before
    assert command(town, "what-if", "rules", "--set", "SILVER.minimum_spend=0") == 0
    assert "BASE>SILVER" in capsys.readouterr().out
    assert command(town, "start", "expiry", "--detach") == 0
    run_id = capsys.readouterr().out.split()[1]
    assert command(town, "pause", run_id) == 0
    assert ": paused" in capsys.readouterr().out
    assert command(town, "run", run_id) == 0
    assert ": paused" in capsys.readouterr().out
    assert command(town, "resume", run_id) == 0
    assert command(town, "run", run_id) == 0
    assert ": done" in capsys.readouterr().out
    assert command(town, "cancel", run_id) == 2
    assert "has ended" in capsys.readouterr().err
    assert command(town, "status", run_id) == 0
    assert f"{expected(people)[1]} points cancelled" in capsys.readouterr().out
    assert before - liable() == expected(people)[1]
    assert command(town, "start", "expiry", "--as-of", "2030-01-01") == 2
    assert "has not come yet" in capsys.readouterr().err
    assert command(town, "start", "expiry", "--exclude-file", "/nowhere.xml") == 2
    assert "nowhere.xml" in capsys.readouterr().err
    backfill = town.start(BulkKind.BACKFILL)
    assert command(town, "run", backfill) == 2
    assert "goes on with the command that began it" in capsys.readouterr().err
    assert read(town.client, backfill).status is BulkStatus.RUNNING
    set_status(town.client, backfill, BulkStatus.CANCELLED, town.now)
    assert command(town, "liability") == 0
    assert "in money" in capsys.readouterr().out


def test_a_backfill_that_no_command_began_fails_and_says_which_does(town: Town) -> None:
    begun, stray = town.start(BulkKind.BACKFILL), town.start(BulkKind.BACKFILL)
    town.client.commit([Update(f"loy_bulkruns({begun})", {"loy_startedon": NOW})])

    def after(minutes: int) -> list[tuple[BulkStatus, str]]:
        later = datetime.now(UTC) + timedelta(minutes=minutes)  # Dataverse's own clock says when a row was modified
        assert not list(replace(jobs_of(town), clock=lambda: later).work_all(stop=lambda: False))
        return [(found.status, found.message) for found in (read(town.client, run_id) for run_id in (begun, stray))]

    assert after(minutes=10) == [(BulkStatus.RUNNING, "")] * 2
    untouched, (status, message) = after(minutes=70)
    assert untouched == (BulkStatus.RUNNING, "")
    assert status is BulkStatus.FAILED
    assert "python -m connector backfill history" in message
    set_status(town.client, begun, BulkStatus.CANCELLED, town.now)


def test_the_nightly_review_does_as_the_programme_says(town: Town) -> None:
    """Whom it spares, whom it settles first, the template of its notices."""
    people = town.settle(20)
    spared, first = [person for person in people if person.gone and person.customer.table == "account"][:2]
    path = f"loy_programs({town.program.id})"
    columns = {
        "loy_exclude": found_alone(spared),
        "loy_settlefirst": found_alone(first),
        "loy_noticetemplate": "Good morning",
    }
    town.client.commit([Update(path, columns)])
    jobs = jobs_of(town)
    customers, points = expected(people)
    town.notices.messages.clear()
    progress = jobs.work(jobs.start_nightly())
    assert done(progress) == (customers - 1, points - spared.gone - first.gone)
    assert town.points(spared.customer) == (spared.state.balance,) * 2
    assert [change.session for change in town.office.sent] == [str(first.customer)]
    town.office.work([])
    assert town.points(first.customer) == (first.state.balance - first.gone,) * 2
    assert {json.loads(str(message))["template"] for message in town.notices.messages} == {"Good morning"}
    town.client.commit([Update(path, dict.fromkeys(columns))])
    assert done(town.work(town.start(BulkKind.REVIEW))) == (1, spared.gone)
    town.holds()


def test_a_review_that_no_run_sent_cancels_nothing(town: Town) -> None:
    """A replay of a customer, for example: it does not know whom the programme leaves alone."""
    (person,) = town.settle(1, due=1.0)
    review = Change.about(Subject.REVIEW, person.customer.membership_id, str(person.customer), cause="replay")
    town.office.processor.process(review)
    assert town.points(person.customer) == (person.state.balance,) * 2
    assert done(town.work(town.start())) == (1, person.gone)
    town.holds()


def interrupted(town: Town, **order: Any) -> Resident:
    """Whoever redeems while a run writes them, and is left by it to their session."""
    people = town.settle(40)
    clerk = spender(people)

    def meddle(request: Any) -> None:
        if clerk.customer.membership_id in str(request.body or "") and "/loy_entries/Microsoft" in request.url:
            assert redeem(town, clerk.customer, 100)["loy_transactioncode"]

    progress = town.work(town.start(**order), meddled(town, before=meddle), lanes=1, page=100)
    assert progress.totals.second_round == 1
    town.office.work([])
    return clerk


def test_their_session_keeps_to_what_the_run_was_ordered(town: Town) -> None:
    """Spared points live on there too, and nothing is announced."""
    clerk = interrupted(town, spare_days=900, notices=False)
    member = ledger.membership_of(clerk.customer, town.client.get(ledger.membership_path(clerk.customer)))
    assert member.state.balance == clerk.state.balance - 100 * (member.state.sequence - clerk.state.sequence - 1)
    assert min(member.state.lots) >= town.now().date()
    path = f"loy_entries?$select=loy_noticestatus,loy_sequence&$filter=_loy_membershipid_value eq {clerk.customer.membership_id}"
    last = max(town.client.get(path), key=lambda row: row["loy_sequence"])
    assert last["loy_noticestatus"] == NoticeStatus.NONE
    town.holds()


def test_notices_from_their_session_carry_the_template_of_the_run(town: Town) -> None:
    clerk, waiting = interrupted(town, template="Goodbye"), Queue()
    Chores(town.client, town.office.sent.extend, town.now).send_notices(waiting)  # type: ignore[arg-type]
    told = [json.loads(str(message)) for message in waiting.messages]
    templates = {body["kind"]: body.get("template") for body in told if body["customer"] == str(clerk.customer)}
    assert templates == {"redeem": None, "expire": "Goodbye"}


@pytest.mark.parametrize("crash", [False, True])
def test_a_run_that_is_cancelled_finishes_and_announces_what_was_begun(town: Town, crash: bool) -> None:
    """Its worker died behind a bulk call, or the queue refused."""
    people, run_id = town.settle(40), town.start()
    queue = Queue()

    def die(request: Any) -> None:
        if "/loy_entries/Microsoft" in request.url:
            raise Crash

    if crash:
        with pytest.raises(Crash):
            town.work(run_id, meddled(town, after=die), notify=queue.send, lanes=1, page=10)
    else:
        queue.room = 0
        town.work(run_id, notify=queue.send, lanes=1, page=10, stop=lambda: queue.refused > 0)
    begun = set_status(town.client, run_id, BulkStatus.CANCELLED, town.now)
    assert (begun.totals.done, begun.ended_on) == (0, None)
    queue.room = 10**9
    town.moment += timedelta(seconds=LEASE + 1)
    ended = town.work(run_id, notify=queue.send, page=10)
    assert (ended.status, ended.ended_on is not None) == (BulkStatus.CANCELLED, True)
    written = town.client.get(f"loy_entries?$select=loy_points&$filter=_loy_bulkrunid_value eq {run_id}")
    assert {message.message_id for message in queue.messages} == {row["loy_entryid"] for row in written}
    assert 0 < len(written) == ended.totals.notices < sum(person.gone > 0 for person in people)
    assert ended.totals.points == -sum(row["loy_points"] for row in written)
    assert town.work(run_id, notify=queue.send).totals == ended.totals
    town.work(town.start())
    town.holds()


def test_a_run_that_cannot_go_on_holds_up_no_other(town: Town) -> None:
    town.settle(10)
    queue = Queue()
    queue.room = 0
    jobs = replace(jobs_of(town), notify=queue.send)
    stuck, other = town.start(), town.start(dry_run=True)
    for _ in range(2):
        queue.refused = 0
        for progress in jobs.work_all(stop=lambda: queue.refused > 0):
            assert progress.run_id in (stuck, other)
        town.moment += timedelta(seconds=LEASE + 1)
    assert read(town.client, other).status is BulkStatus.DONE
    queue.room = 10**9
    assert {progress.status for progress in jobs.work_all(stop=lambda: False)} == {BulkStatus.DONE}
    town.holds()


def test_a_run_for_another_programme_is_left_to_its_connector(town: Town) -> None:
    people = town.settle(3, due=1.0)
    other = derived_id("test", "another programme")
    town.client.commit([Create("loy_programs", {"loy_programid": other, "loy_name": "Other", "loy_code": "OTHER"})])
    run_id = town.start(program=other)
    assert run_id not in {progress.run_id for progress in jobs_of(town).work_all(stop=lambda: False)}
    with pytest.raises(BadOrder, match="loy_programid: this connector works for the programme CJ"):
        town.work(run_id)
    ours = jobs_of(town).start(Order(BulkKind.EXPIRY, town.now().date()))
    assert read(town.client, ours).order.program == town.program.id
    assert done(town.work(ours)) == expected(people)


def test_who_loses_nothing_is_told_nothing(town: Town) -> None:
    """All their points are spared."""
    town.settle(20)
    queue = Queue()
    spared = town.work(town.start(spare_days=3650), notify=queue.send)
    assert (spared.totals.points, queue.messages) == (0, [])
    town.work(town.start())
    town.holds()


def jobs_of(town: Town) -> MassJobs:
    """As the function app's timer works."""
    return MassJobs([town.client], Programs(town.client, "CJ"), town.office.sent.extend, town.notices.send, town.now)


def moves(progress: Progress) -> dict[str, int]:
    return {tier: customers for (what, tier, _), customers in progress.figures.items() if what == "moved"}


def test_a_what_if_is_the_same_whoever_works_on_it(town: Town) -> None:
    town.settle(5, due=0.0)
    wishes = "SILVER.minimum_spend=0\n\nGOLD.minimum_spend=9999999"
    run_id = town.start(BulkKind.RULES, dry_run=True, what_if=wishes)
    wrong = town.start(BulkKind.RULES, dry_run=True, what_if="TIN.minimum_spend=1")
    ends = {progress.run_id: progress for progress in jobs_of(town).work_all(lambda: False)}
    assert moves(ends[run_id]) == {"BASE>SILVER": ends[run_id].totals.done}
    assert read_message(town, wrong).startswith("loy_whatif: TIN.minimum_spend=1: there is no tier TIN")
    with pytest.raises(BadOrder, match="loy_whatif: only a dry run"):
        town.start(BulkKind.RULES, what_if=wishes)


def test_a_run_of_a_day_that_has_passed_cancels_by_that_day_and_takes_the_tiers_of_its_own(town: Town) -> None:
    people = town.settle(20)
    today = town.now().date()
    silver = changed(town.program, ["SILVER.minimum_spend=0", "GOLD.minimum_spend=9999999"])
    history = ((date(2020, 1, 1), town.program.tiers), (today - timedelta(days=2), silver.tiers))
    run_id = start(town.client, Order(BulkKind.EXPIRY, today - timedelta(days=5)), town.now)
    progress = town.work(run_id, program=replace(silver, tier_history=history))
    assert done(progress) == expected(people)
    assert moves(progress) == {"BASE>SILVER": progress.totals.done}
    town.work(town.start(BulkKind.RULES))
    town.holds()


class Locked(BaseAdapter):
    """Stands before Dataverse, where one account cannot be changed."""

    def __init__(self, behind: BaseAdapter, account: Customer) -> None:
        super().__init__()
        self._behind = behind
        self._account = account

    def send(self, request: Any, **more: Any) -> Response:  # type: ignore[override]
        if "/accounts/Microsoft.Dynamics.CRM." in request.url and self._account.id in str(request.body):
            return refusal(request, 400, "0x80040265")
        return self._behind.send(request, **more)

    def close(self) -> None:
        pass


def test_whose_account_refuses_is_listed_and_visited_again(town: Town) -> None:
    people = town.settle(40)
    locked = next(person for person in people if person.gone and person.customer.table == "account")
    client = town.office.client_of(derived_id("test", "locked"), lambda adapter: Locked(adapter, locked.customer))
    run_id = town.start()
    totals = town.work(run_id, client).totals
    customers, points = expected(people)
    assert (totals.done, totals.failed, totals.points) == (customers - 1, 1, points)
    log = f"loy_integrationlogs?$select=loy_customerkey,loy_reasonclass&$filter=loy_correlationid eq '{run_id}'"
    (row,) = town.client.get(log)
    assert (row["loy_customerkey"], row["loy_reasonclass"]) == (str(locked.customer), "dataverse_refused")
    again = town.work(town.start()).totals
    assert (again.selected, again.done, again.entries, again.failed) == (1, 1, 0, 0)
    assert town.points(locked.customer) == (locked.state.balance - locked.gone,) * 2
    town.holds()


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ("<attribute name='name' alias='n' aggregate='count'/>", "it must give the id of each row"),
        ("<attribute name='nothing'/>", "Dataverse cannot read it"),
        (
            f"<filter><condition attribute='name' operator='eq' value='{'x' * 40_000}'/></filter>",
            "Dataverse reads at most",
        ),
    ],
)
def test_a_list_that_cannot_be_read_ends_its_own_run_only(town: Town, inside: str, fault: str) -> None:
    people = town.settle(5, due=1.0)
    aggregate = " aggregate='true'" if "aggregate" in inside else ""
    wrong = town.start(exclude=f"<fetch{aggregate}><entity name='account'>{inside}</entity></fetch>")
    right = town.start()
    ends = {progress.run_id: progress for progress in jobs_of(town).work_all(lambda: False)}
    assert done(ends[right]) == expected(people)
    message = read_message(town, wrong)
    assert message.startswith("loy_exclude: ")
    assert fault in message
