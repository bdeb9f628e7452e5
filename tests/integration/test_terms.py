"""An administrator edits rules and tiers in place: what was posted keeps its terms, and mistakes are written on the row."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector.audit import Audit
from connector.dataverse import Create, Delete, Update
from connector.doctor import check_program
from connector.doctor_probe import check_round_trip
from connector.findings import Level
from connector.mass import MassJobs, Order, set_status
from connector.processing import Processor
from connector.rows import ledger
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.programs import Programs, read_program
from connector.store import Store
from local.demo.journey import Basket, Slice, read_slice
from local.demo.shop import Shop, invoice_id
from tests.console import settings
from tests.office import Office

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)


class Company:
    """One office whose clock can be set."""

    def __init__(self, home: Path) -> None:
        self.now = NOW
        self.office = Office(home, clock=lambda: self.now)
        self.shop = Shop(self.office.client)
        self.purchases: Slice = read_slice(2, 6)
        self.office.events()

    def opened(self) -> list[Basket]:
        """The baskets of one household that has an account."""
        household = self.purchases.households[0]
        baskets = [basket for basket in self.purchases.baskets if basket.household == household]
        self.shop.open_accounts([household], {household: baskets[0]})
        return baskets

    def work(self) -> None:
        """As a process that has just read the programme."""
        office = self.office
        programs = Programs(office.client, "CJ")
        office.processor = Processor(Store(office.client, office.now), programs, office.sent.extend, office.now)
        office.work(office.events())

    def row(self, table: str, condition: str) -> dict[str, Any]:
        (found,) = self.office.client.get(f"{table}?$filter={condition}")
        return dict(found)

    def jobs(self) -> MassJobs:
        office = self.office
        return MassJobs([office.client], Programs(office.client, "CJ"), office.sent.extend, [].extend, office.now)

    def rule(self) -> str:
        return f"loy_earnrules({self.row('loy_earnrules', 'loy_version eq 1')['loy_earnruleid']})"

    def tier(self, code: str) -> str:
        return f"loy_tiers({self.row('loy_tiers', f"loy_code eq '{code}'")['loy_tierid']})"

    def edit(self, path: str, **columns: Any) -> None:
        self.office.client.commit([Update(path, columns)])
        self.work()

    def versions(self) -> list[tuple[int, str | None, str]]:
        rows = self.office.client.get("loy_programversions?$orderby=loy_version")
        return [(row["loy_version"], row["loy_validfrom"], row["loy_changes"]) for row in rows]

    def entries(self, basket: Basket) -> list[tuple[int, str]]:
        path = f"loy_entries?$select={ledger.ENTRY}&$filter=loy_cause eq 'invoice:{invoice_id(basket.number)}'"
        rows = self.office.client.get(f"{path}&$orderby=loy_sequence")
        return [(row["loy_points"], row["loy_ruleversion"]) for row in rows]

    def points(self, basket: Basket) -> int:
        return sum(points for points, _ in self.entries(basket))

    def audited(self) -> list[str]:
        office = self.office
        return Audit(office.client, read_program(office.client, "CJ"), self.now).run().violations


def night(company: Company, ended: BulkStatus | None = None) -> tuple[int, str]:
    """The kind of the nightly run, and the tier of the only customer afterwards; a run that has `ended` before it began."""
    jobs, client = company.jobs(), company.office.client
    run_id = jobs.start_nightly()
    if ended:
        set_status(client, run_id, ended, company.office.now)
    jobs.work(run_id)
    (member,) = client.get("loy_memberships?$filter=loy_sequence gt 0&$expand=loy_TierId($select=loy_code)")
    return company.row("loy_bulkruns", f"loy_bulkrunid eq {run_id}")["loy_kind"], member["loy_TierId"]["loy_code"]


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    yield company
    company.office.close()


def test_an_edited_rate_and_tier_leave_the_past_alone(company: Company) -> None:
    first, second, third, *_ = company.opened()
    company.shop.issue([first, second])
    company.work()
    before = [company.points(basket) for basket in (first, second)]
    assert min(before) > 0
    assert company.versions() == [(1, None, "first version")]

    company.edit(company.rule(), loy_pointsperunit=7)
    company.edit(company.tier("SILVER"), loy_minimumspend=0, loy_multiplier=2)
    assert [version[:2] for version in company.versions()] == [(1, None), (2, "2026-06-11"), (3, "2026-06-11")]
    assert "earn rule 1: points per unit" in company.versions()[1][2]
    assert "tier SILVER: multiplier 1.1 -> 2" in company.versions()[2][2]

    # The same invoices are looked at again, corrected and cancelled: by the terms of the sale.
    company.shop.pay([first])
    company.shop.correct(second)
    company.work()
    assert company.points(first) == before[0]
    assert {version for basket in (first, second) for _, version in company.entries(basket)} == {"1"}
    assert company.audited() == []

    company.now = NOW + timedelta(days=30)
    later = replace(third, bought_on=NOW + timedelta(days=29))
    company.shop.issue([later])
    company.work()
    assert [version for _, version in company.entries(later)] == ["1.2"]
    excluded = company.row("loy_earnrules", "loy_version eq 1")["loy_excludedcategories"].splitlines()
    money = sum(line.quantity * line.price - line.discount for line in later.lines if line.category not in excluded)
    assert company.points(later) == int(money * 7 * 2)
    assert company.audited() == []

    company.shop.cancel(first)
    company.shop.cancel(later)
    company.work()
    assert (company.points(first), company.points(later)) == (0, 0)
    assert {version for _, version in company.entries(first)} == {"1"}
    assert company.audited() == []


def test_customers_move_in_the_night_on_which_other_tiers_come_into_force(company: Company) -> None:
    baskets = [replace(basket, bought_on=NOW) for basket in company.opened()[:1]]
    company.shop.issue(baskets)
    company.work()
    company.edit(company.tier("SILVER"), loy_minimumspend=1)

    assert night(company) == (BulkKind.REVIEW, "BASE")
    company.now = NOW + timedelta(days=1)
    assert night(company) == (BulkKind.RULES, "SILVER")
    company.now = NOW + timedelta(days=2)
    assert night(company) == (BulkKind.REVIEW, "SILVER")
    assert company.audited() == []


def test_a_night_that_failed_is_made_up(company: Company) -> None:
    baskets = [replace(basket, bought_on=NOW) for basket in company.opened()[:1]]
    company.shop.issue(baskets)
    company.work()
    company.edit(company.tier("SILVER"), loy_minimumspend=1)
    for days, status in enumerate([BulkStatus.CANCELLED, BulkStatus.FAILED], 1):
        company.now = NOW + timedelta(days=days)
        assert night(company, status) == (BulkKind.RULES, "BASE")
    company.now = NOW + timedelta(days=4)  # in one night nothing ran
    jobs = company.jobs()
    assert jobs.work(jobs.start(Order(BulkKind.RULES, company.now.date(), dry_run=True))).status is BulkStatus.DONE
    assert night(company) == (BulkKind.RULES, "SILVER")
    company.now = NOW + timedelta(days=5)
    assert night(company) == (BulkKind.REVIEW, "SILVER")


def test_edited_settings_leave_the_past_alone(company: Company) -> None:
    company.office.environment.clock = lambda: company.now
    first, second, third = (replace(basket, bought_on=NOW) for basket in company.opened()[:3])
    company.shop.issue([first, second])
    company.work()
    program = f"loy_programs({company.row('loy_programs', "loy_code eq 'CJ'")['loy_programid']})"
    company.edit(program, loy_spendableon=482100000, loy_lifetimemonths=1, loy_currencies="CHF", loy_pointvalue=5)
    told = "\n".join(changes for _, _, changes in company.versions())
    assert "programme: spendable on payment -> issue" in told
    assert "programme: lifetime months 12 -> 1" in told

    # Points of one paid today live as long as today's settings say, even if we hear of its payment later.
    company.shop.pay([first])
    company.now = NOW + timedelta(days=2)
    company.work()
    (member,) = company.office.client.get("loy_memberships?$filter=loy_sequence gt 0")
    assert member["loy_balance"] == company.points(first) > 0
    assert member["loy_nextexpiryon"] == "2027-06-30"
    # The other still earns in its currency and waits for its payment; then the new settings say how long its points live.
    assert member["loy_pending"] == company.points(second) > 0
    company.shop.pay([second])
    company.work()
    (member,) = company.office.client.get("loy_memberships?$filter=loy_sequence gt 0")
    assert (member["loy_pending"], member["loy_nextexpiryon"]) == (0, "2026-07-31")

    # One of afterwards is in a currency that earns no more.
    company.shop.issue([replace(third, bought_on=NOW + timedelta(days=1))])
    company.work()
    (parked,) = company.office.client.get("loy_integrationlogs?$filter=loy_field eq 'transactioncurrencyid'")
    assert parked["loy_message"]
    assert company.points(third) == 0

    assert read_program(company.office.client, "CJ").point_value == 5
    assert company.audited() == []


def test_an_edit_that_contradicts_another_row_is_written_on_both_and_does_not_count(company: Company) -> None:
    (basket, *_) = company.opened()
    company.shop.issue([basket])
    company.work()
    company.edit(company.tier("GOLD"), loy_rank=1)
    for code in ("SILVER", "GOLD"):
        problem = company.row("loy_tiers", f"loy_code eq '{code}'")["loy_problem"]
        assert problem == "Tiers GOLD and SILVER have the same rank 1."
    assert len(company.versions()) == 1
    (finding,) = check_program(company.office.client, settings())
    assert (finding.level, "same rank 1" in finding.says) == (Level.WRONG, True)

    company.edit(company.tier("GOLD"), loy_rank=2)
    assert company.office.client.get("loy_tiers?$filter=loy_problem ne null") == []
    assert len(company.versions()) == 1  # as it was


def test_what_is_only_doubtful_is_written_on_the_row_and_counts(company: Company) -> None:
    (basket, *_) = company.opened()
    company.shop.issue([basket])
    company.work()
    company.edit(company.tier("GOLD"), loy_minimumspend=1)
    problem = company.row("loy_tiers", "loy_code eq 'SILVER'")["loy_problem"]
    assert problem == "Nobody will ever hold tier SILVER: tier GOLD above it asks for no more."
    assert [version[0] for version in company.versions()] == [1, 2]


def test_settings_that_cannot_be_meant_are_written_on_the_programme(company: Company) -> None:
    program = f"loy_programs({company.row('loy_programs', "loy_code eq 'CJ'")['loy_programid']})"
    for columns, says in (
        ({"loy_spendableon": 482100002, "loy_spendabledays": 0}, "the number of days is 0"),
        ({"loy_currencies": "EUR, Dollar"}, "'Dollar' is no ISO code"),
        ({"loy_noticekinds": "redeem, birthday"}, "'birthday' is no kind of entry"),
    ):
        company.edit(program, **columns)
        assert says in company.row("loy_programs", "loy_code eq 'CJ'")["loy_problem"]
    company.edit(program, loy_spendabledays=3, loy_currencies=None, loy_noticekinds="redeem")
    assert company.row("loy_programs", "loy_code eq 'CJ'")["loy_problem"] is None


def test_a_rule_without_a_day_is_named_and_the_terms_before_it_stay(company: Company) -> None:
    (basket, *_) = company.opened()
    company.shop.issue([basket])
    company.work()
    program = company.row("loy_programs", "loy_code eq 'CJ'")["loy_programid"]
    bind = {"loy_ProgramId@odata.bind": f"/loy_programs({program})"}
    company.office.client.commit([Create("loy_earnrules", {"loy_name": "New", "loy_version": 2, **bind})])
    company.work()
    assert company.row("loy_earnrules", "loy_version eq 2")["loy_problem"] == "The column loy_validfrom is empty."
    assert company.points(basket) > 0
    assert company.audited() == []


def test_a_deleted_tier_is_in_force_until_the_version_without_it(company: Company) -> None:
    (basket, *_) = company.opened()
    company.shop.issue([basket])
    company.work()
    company.office.client.commit([Delete(company.tier("GOLD"))])
    company.work()
    program = read_program(company.office.client, "CJ")
    assert [len(program.tiers_on(NOW.date() + timedelta(days=days))) for days in (0, 1)] == [4, 3]
    assert program.tier("GOLD", NOW.date()).id is None  # no row to point to any more
    assert "tier GOLD was deleted" in company.versions()[-1][2]


def test_the_doctor_s_probe_comes_back_by_its_event_and_leaves_nothing(company: Company) -> None:
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        company.work()

    (found,) = check_round_trip(company.office.client, settings(), pause=pause)
    assert (found.level, len(waited)) == (Level.GOOD, 1)
    assert company.row("loy_programs", "loy_code eq 'CJ'")["loy_problem"] is None
