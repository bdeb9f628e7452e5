"""Points outstanding are counted once each, whoever counts and however often it is interrupted."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connector.commands import liability as command
from connector.dataverse import Create, Update
from connector.mass import BadOrder, MassJobs, Order, Progress, set_status
from connector.mass.book import Book
from connector.mass.liability import count, points_of
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.programs import Programs, read_program
from tests.office import Office
from tests.town import NOW, Resident, residents, settle_in

PAGE = 2


class Company:
    """An office with sixty customers, two of them with points pending and points owed."""

    def __init__(self, home: Path) -> None:
        self.moment = NOW
        self.office = Office(home, clock=self.now)
        self.client = self.office.client
        self.people = residents(60, 7)
        settle_in(self.client, read_program(self.client, "CJ"), self.people)
        sent: list[Any] = []
        self.jobs = MassJobs([self.client], Programs(self.client, "CJ"), sent.extend, sent.extend, self.now)
        self._change(self.people[0], {"loy_pending": 30})
        self._change(self.people[1], {"loy_state": json.dumps({"tier": "GOLD", "lots": {}, "owed": 12})})

    def now(self) -> datetime:
        return self.moment

    def expected(self) -> Counter[tuple[str, str]]:
        found = Counter({("BASE", "pending"): 30, ("GOLD", "owed"): -12})
        for person in (self.people[0], *self.people[2:]):
            for day, points in person.state.lots.items():
                found["BASE", f"{day:%Y-%m}"] += points
        return found

    def start(self) -> str:
        return self.jobs.start(Order(BulkKind.OUTSTANDING, self.moment.date()))

    def count(self, run_id: str, **more: Any) -> Progress:
        return count(self.client, run_id, clock=self.now, **{"page": PAGE, "lanes": 2} | more)

    def _change(self, person: Resident, columns: dict[str, Any]) -> None:
        self.client.commit([Update(f"loy_memberships({person.customer.membership_id})", columns)])


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    made = Company(tmp_path_factory.mktemp("company"))
    yield made
    made.office.close()


def test_everybody_is_counted_once_however_often_it_is_interrupted(company: Company) -> None:
    run_id = company.start()
    interruptions = 0

    def after(looks: int) -> Callable[[], bool]:
        left = iter(range(looks))
        return lambda: next(left, None) is None

    # Few looks end in the middle of a part, more let some parts be finished.
    while (found := company.count(run_id, stop=after(14 if interruptions % 2 else 3))).status is BulkStatus.RUNNING:
        interruptions += 1
        assert interruptions < 100
    assert interruptions > 1
    assert found.status is BulkStatus.DONE
    assert points_of(found) == company.expected()
    assert (found.totals.done, found.totals.selected) == (60, 60)
    assert found.totals.entries == 0


def test_what_another_process_holds_is_left_to_it_until_it_is_not_heard_of(company: Company) -> None:
    run_id = company.start()
    paused = company.count(run_id, stop=lambda: True)
    assert (paused.status, paused.totals.done) == (BulkStatus.RUNNING, 0)
    _, held = Book(company.client, run_id, company.now, 300).claim("another", [], 2)
    found = company.count(run_id)
    assert (found.status, found.parts_left) == (BulkStatus.RUNNING, 2)
    assert found.totals.done < 60
    company.moment += timedelta(minutes=6)
    found = company.count(run_id)
    assert (found.status, found.totals.done) == (BulkStatus.DONE, 60), held
    assert points_of(found) == company.expected()


def test_a_count_is_paused_and_resumed_as_any_run(company: Company) -> None:
    run_id = company.start()
    set_status(company.client, run_id, BulkStatus.PAUSED, company.now)
    assert company.count(run_id).totals.done == 0
    set_status(company.client, run_id, BulkStatus.RUNNING, company.now)
    assert company.count(run_id).totals.done == 60


def test_a_count_that_cannot_be_done_says_why(company: Company) -> None:
    row = {"loy_kind": BulkKind.OUTSTANDING.value, "loy_status": BulkStatus.RUNNING.value, "loy_name": "No day"}
    run_id = "0b6e31aa-6a57-4ccb-a4d4-6ab1b1f6f2c1"
    company.client.commit([Create("loy_bulkruns", row | {"loy_bulkrunid": run_id})])
    with pytest.raises(BadOrder, match="loy_asof"):
        company.jobs.work(run_id)
    (failed,) = company.client.get(f"loy_bulkruns?$select=loy_status,loy_message&$filter=loy_bulkrunid eq {run_id}")
    assert failed["loy_status"] == BulkStatus.FAILED.value
    assert "loy_asof" in failed["loy_message"]


def test_every_night_has_one_count_which_the_timer_works_on(company: Company) -> None:
    run_id = company.jobs.start_count()
    assert company.jobs.start_count() == run_id
    ends = {found.run_id: found for found in company.jobs.work_all(lambda: False)}
    assert ends[run_id].status is BulkStatus.DONE
    assert points_of(ends[run_id]) == company.expected()


def test_the_command_counts_and_keeps_the_count(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    app: Any = SimpleNamespace(
        client=company.client, mass=company.jobs, programs=company.jobs.programs, now=company.now
    )
    assert command.run(app, argparse.Namespace(json=True)) == 0
    said = json.loads(capsys.readouterr().out)
    assert {(tier, month): n for tier, months in said.items() for month, n in months.items()} == company.expected()
    assert command.run(app, argparse.Namespace(json=False)) == 0
    assert f"{company.expected().total():,}" in capsys.readouterr().out
    condition = f"loy_kind eq {BulkKind.OUTSTANDING.value} and loy_status eq {BulkStatus.DONE.value}"
    kept = company.client.get(f"loy_bulkruns?$select=loy_figures&$filter={condition}")
    assert len(kept) >= 2
    for row in kept:
        assert json.loads(row["loy_figures"])["outstanding|GOLD|owed"] == -12
