"""What a page costs: it follows the rows it holds, not the size of the table, nor how far on it is.

Cost is counted in steps of the database's machine, which are the same in every run.
"""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.dataverse.conftest import Dataverse, column

ROWS, DUE, PAGE = 4000, 100, 20
DATE = column("DateTime", "new_DueOn", DateTimeBehavior={"Value": "DateOnly"})
ON_OR_BEFORE = "Microsoft.Dynamics.CRM.OnOrBefore(PropertyName='new_dueon',PropertyValue='2026-01-31')"


@pytest.fixture(scope="module")
def due(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataverse]:
    """4,000 rows, of which 100 are due in January 2026."""
    path = tmp_path_factory.mktemp("pages") / "dataverse.db"
    shutil.copyfile(template, path)
    dataverse = Dataverse(path)
    table = dataverse.table()
    dataverse.ok("POST", f"{table}/Attributes", DATE)
    dataverse.ok("POST", f"{table}/Attributes", column("Integer", "new_Part"))
    dataverse.key(table, "new_PartKey", "new_part", "new_name")
    days = [f"2026-01-{n % 28 + 1:02d}" if n % (ROWS // DUE) == 0 else f"2027-0{n % 9 + 1}-01" for n in range(ROWS)]
    targets = [
        {
            "@odata.type": "Microsoft.Dynamics.CRM.new_thing",
            "new_name": f"{n:05d}",
            "new_dueon": day,
            "new_part": n % 50,
        }
        for n, day in enumerate(days)
    ]
    for first in range(0, ROWS, 1000):
        body = {"Targets": targets[first : first + 1000]}
        dataverse.ok("POST", "new_things/Microsoft.Dynamics.CRM.CreateMultiple", body)
    yield dataverse
    dataverse.env.close()


def costs(dataverse: Dataverse, query: str) -> tuple[list[str], list[int]]:
    """(ids of all rows, hundreds of steps of each page)."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    ids, each = [], []
    path = f"new_things?$select=new_dueon&{quote(query, safe='$=&')}"
    while path:
        steps = 0
        dataverse.env.storage.reader.set_progress_handler(count, 100)
        answer = dataverse.ok("GET", path, prefer=f"odata.maxpagesize={PAGE}")
        dataverse.env.storage.reader.set_progress_handler(None, 0)
        each.append(steps)
        ids += [row["new_thingid"] for row in answer["value"]]
        path = answer.get("@odata.nextLink", "")
    return ids, each


@pytest.mark.parametrize(
    "order",
    ["", "&$orderby=new_thingid", "&$orderby=new_dueon", "&$orderby=new_dueon,new_thingid", "&$orderby=new_name"],
)
@pytest.mark.parametrize(
    "condition",
    [
        "new_dueon le 2026-01-31", "new_dueon lt 2026-02-01 and statecode eq 0", "2026-01-31 ge new_dueon",
        "new_dueon le 2026-01-31 and new_dueon ge 2026-01-01", ON_OR_BEFORE,
    ],
)  # fmt: skip
def test_rows_that_are_due_are_found_without_walking_the_table(due: Dataverse, condition: str, order: str) -> None:
    ids, each = costs(due, f"$filter={condition}{order}")
    assert len(set(ids)) == len(ids) == DUE
    assert max(each) < 80, each  # a walk over the table would be 200 and more


@pytest.mark.parametrize("order", ["new_thingid", "new_dueon", "new_dueon,new_thingid"])
def test_page_k_costs_what_page_1_costs(due: Dataverse, order: str) -> None:
    ids, each = costs(due, f"$filter=new_dueon le 2028-01-01&$orderby={order}")
    assert len(set(ids)) == len(ids) == ROWS
    assert max(each[1:-1]) <= min(each[1:-1]) + 4, each


@pytest.mark.parametrize(
    "condition", ["new_part ge 10 and new_part lt 60", "new_part eq 30", "new_part gt 10 and 60 gt new_part"]
)
def test_page_k_of_a_part_costs_what_page_1_costs(due: Dataverse, condition: str) -> None:
    """Parts of a table by a key, in the key's order: how work on a whole table is shared."""
    ids, each = costs(due, f"$filter={condition}&$orderby=new_part,new_name")
    assert len(set(ids)) == len(ids) > 3 * PAGE
    assert max(each[1:-1]) <= min(each[1:-1]) + 4, each


def test_an_environment_made_before_gets_its_indexes(due: Dataverse) -> None:
    writer = due.env.storage.writer
    writer.execute('DROP INDEX "new_thing.new_dueon"')
    with due.env.storage.writing():
        due.env.storage.index_all(due.env.schema.tables.values())
    assert max(costs(due, "$filter=new_dueon le 2026-01-31")[1]) < 80


def test_what_one_row_holds_too_much_of_is_not_searched_for_a_few_of_many(dataverse: Dataverse) -> None:
    """All accounts have one parent and a contact of their own: once the file is opened anew, the contact is followed."""
    parent = dataverse.ok("POST", "accounts", {"name": "Parent"})
    people = [str(uuid.UUID(int=n)) for n in range(1, 1001)]
    contacts = [
        {"@odata.type": "Microsoft.Dynamics.CRM.contact", "contactid": person, "lastname": "Contact"}
        for person in people
    ]
    accounts = [
        {
            "@odata.type": "Microsoft.Dynamics.CRM.account",
            "name": "Account",
            "parentaccountid@odata.bind": f"/accounts({parent})",
            "primarycontactid@odata.bind": f"/contacts({person})",
        }
        for person in people
    ]
    dataverse.ok("POST", "contacts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": contacts})
    dataverse.ok("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": accounts})
    wanted = " or ".join(f"_primarycontactid_value eq {person}" for person in people[:3])
    again, steps = Dataverse(dataverse.env.storage.path), 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    try:
        again.env.storage.reader.set_progress_handler(count, 100)
        path = f"accounts?$select=name&$filter=_parentaccountid_value eq {parent} and ({wanted})"
        assert len(again.ok("GET", path)["value"]) == 3
        assert steps < 20
    finally:
        again.env.close()
