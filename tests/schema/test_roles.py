"""What the installed roles let people do: a clerk asks, an admin repairs, nobody but the connector writes points."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from connector.dataverse import Create, DataverseClient, Delete, Forbidden, Update
from connector.mass import BadOrder, lists
from local.dataverse.provisioning import ensure_user

from .conftest import World, opened

ACCOUNT = "11111111-0000-4000-8000-000000000001"
MEMBERSHIP = "22222222-0000-4000-8000-000000000001"
ENTRY = "33333333-0000-4000-8000-000000000001"
OTHERS = "44444444-0000-4000-8000-000000000001"
ADJUSTMENT = "55555555-0000-4000-8000-000000000001"
LOG = "66666666-0000-4000-8000-000000000001"
USERS = {
    "clerk": ("99999999-0000-4000-8000-000000000001", ("Loyalty clerk",)),
    "admin": ("99999999-0000-4000-8000-000000000002", ("Loyalty admin",)),
    "salesperson": ("99999999-0000-4000-8000-000000000003", ()),
    "connector": ("99999999-0000-4000-8000-000000000004", ("Loyalty connector",)),
}
COMPLETED = 482100001


def redemption(row_id: str) -> dict[str, Any]:
    bind = {"loy_CustomerId_account@odata.bind": f"/accounts({ACCOUNT})"}
    return {"loy_redemptionid": row_id, "loy_requestid": row_id, "loy_name": "R", "loy_points": 5, **bind}


@pytest.fixture(scope="module")
def people(installed_home: Any, certificates: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Clients of the installer and of each user, in an environment with a ledger, a redemption and a log row."""

    home = shutil.copytree(installed_home, tmp_path_factory.mktemp("roles") / "home")
    with opened(home, certificates) as world, ExitStack() as stack:
        yield {"installer": stack.enter_context(world.client()), **signed_in(world, stack)}


def signed_in(world: World, stack: ExitStack) -> dict[str, DataverseClient]:
    with world.client() as installer:
        bind = {"loy_CustomerId_account@odata.bind": f"/accounts({ACCOUNT})"}
        member = {"loy_membershipid": MEMBERSHIP, "loy_customerkey": f"account:{ACCOUNT}", "loy_sequence": 1, **bind}
        entry = {"loy_entryid": ENTRY, "loy_sequence": 1, "loy_idempotencykey": "x", "loy_points": 5, "loy_hash": "0"}
        entry |= {"loy_kind": 482100000, "loy_MembershipId@odata.bind": f"/loy_memberships({MEMBERSHIP})"}
        adjustment = {"loy_adjustmentid": ADJUSTMENT, "loy_name": "A", "loy_points": 5, "loy_reason": "r", **bind}
        installer.commit([Create("accounts", {"accountid": ACCOUNT, "name": "Adatum"})])
        installer.commit([Create("loy_memberships", member), Create("loy_entries", entry)])
        installer.commit([Create("loy_redemptions", redemption(OTHERS)), Create("loy_adjustments", adjustment)])
        installer.commit([Create("loy_integrationlogs", {"loy_integrationlogid": LOG, "loy_name": "L"})])
    found = {}
    for name, (application, roles) in USERS.items():
        ensure_user(world.environment, name, application=application, roles=roles)
        found[name] = stack.enter_context(world.client(application))
    return found


@pytest.mark.parametrize(
    ("who", "write"),
    [
        ("clerk", Update(f"loy_redemptions({OTHERS})", {"loy_status": COMPLETED})),
        ("clerk", Update(f"loy_memberships({MEMBERSHIP})", {"loy_balance": 1_000_000, "loy_state": "{}"})),
        ("clerk", Update(f"loy_entries({ENTRY})", {"loy_points": 1_000_000})),
        ("clerk", Create("loy_entries", {"loy_sequence": 2, "loy_points": 5, "loy_hash": "0"})),
        ("clerk", Delete(f"loy_redemptions({OTHERS})")),
        ("clerk", Update(f"loy_adjustments({ADJUSTMENT})", {"loy_status": COMPLETED})),
        ("clerk", Update(f"loy_integrationlogs({LOG})", {"loy_resume": True})),
        ("admin", Update(f"loy_entries({ENTRY})", {"loy_points": 1_000_000})),
        ("admin", Create("loy_entries", {"loy_sequence": 2, "loy_points": 5, "loy_hash": "0"})),
        ("admin", Delete(f"loy_entries({ENTRY})")),
        ("admin", Update(f"loy_redemptions({OTHERS})", {"loy_status": COMPLETED})),
        ("salesperson", Create("loy_redemptions", redemption("77777777-0000-4000-8000-000000000001"))),
        ("salesperson", Create("loy_adjustments", {"loy_name": "A", "loy_points": 5, "loy_reason": "r"})),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__} {value.path.partition('(')[0]}",
)
def test_what_is_not_theirs_to_write(people: Any, who: str, write: Any) -> None:
    with pytest.raises(Forbidden):
        people[who].commit([write])


def test_a_clerk_may_ask_but_not_answer_their_own_redemption(people: Any) -> None:
    own = "88888888-0000-4000-8000-000000000001"
    people["clerk"].commit([Create("loy_redemptions", redemption(own))])
    with pytest.raises(Forbidden):
        people["clerk"].commit([Update(f"loy_redemptions({own})", {"loy_status": COMPLETED})])
    assert people["clerk"].get(f"loy_memberships({MEMBERSHIP})?$select=loy_sequence")["loy_sequence"] == 1


@pytest.mark.parametrize("table", ["loy_memberships", "loy_entries", "loy_redemptions", "loy_integrationlogs"])
def test_without_a_role_nothing_is_seen(people: Any, table: str) -> None:
    with pytest.raises(Forbidden):
        people["salesperson"].get(f"{table}?$top=1")


def test_an_admin_resumes(people: Any) -> None:
    people["admin"].commit([Update(f"loy_integrationlogs({LOG})", {"loy_resume": True})])
    assert people["installer"].get(f"loy_integrationlogs({LOG})?$select=loy_resume")["loy_resume"]


def test_the_connector_may_read_the_views_of_whom_a_run_leaves_alone(people: Any) -> None:
    fetch = "<fetch><entity name='account'><attribute name='name'/></entity></fetch>"
    view = {"name": "Open cases", "returnedtypecode": "account", "querytype": 0, "fetchxml": fetch}
    view_id = people["installer"].request("POST", "savedqueries", view).headers["odata-entityid"][-37:-1]
    assert lists.read(people["connector"], "loy_exclude", view_id).has(f"account:{ACCOUNT}", "")
    more = "<link-entity name='opportunity' from='customerid' to='accountid'/>"
    with pytest.raises(BadOrder, match=r"loy_exclude: Dataverse cannot read it: .*prvReadOpportunity"):
        lists.read(people["connector"], "loy_exclude", fetch.replace("</entity>", f"{more}</entity>"))
