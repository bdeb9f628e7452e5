"""Security: roles, depth, ownership, shares, column security, impersonation, tokens."""

from typing import Any

import pytest

from tests.dataverse.conftest import ROOT, Dataverse, column


def role(dataverse: Dataverse, name: str, **privileges: str) -> str:
    """A role with privileges such as prvReadAccount="Basic"; answers its name."""
    unit = dataverse.ok("GET", "businessunits?$filter=_parentbusinessunitid_value eq null")["value"][0][
        "businessunitid"
    ]
    made = dataverse.ok("POST", "roles", {"name": name, "businessunitid@odata.bind": f"/businessunits({unit})"})
    known = {row["name"]: row["privilegeid"] for row in dataverse.ok("GET", "privileges?$select=name")["value"]}
    wanted = [{"PrivilegeId": known[name], "Depth": depth} for name, depth in privileges.items()]
    dataverse.ok("POST", f"roles({made})/Microsoft.Dynamics.CRM.AddPrivilegesRole", {"Privileges": wanted})
    return name


def test_a_missing_privilege_is_named(dataverse: Dataverse) -> None:
    dataverse.person("reader", role(dataverse, "Reader", prvReadAccount="Global"))
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    assert dataverse.ok("GET", f"accounts({row})", user="reader")["name"] == "A"
    message = dataverse.fails(403, "0x80040220", "POST", "accounts", {"name": "B"}, user="reader")
    assert "is missing prvCreateAccount privilege" in message
    dataverse.fails(403, "0x80040220", "PATCH", f"accounts({row})", {"name": "B"}, user="reader")
    dataverse.fails(403, "0x80040220", "DELETE", f"accounts({row})", user="reader")
    dataverse.fails(403, "0x80040220", "GET", "contacts", user="reader")
    dataverse.fails(403, "0x80040220", "POST", "EntityDefinitions", {}, user="reader")


def test_depth_limits_reads_and_writes_to_own_rows(dataverse: Dataverse) -> None:
    basic = role(dataverse, "Clerk", prvReadAccount="Basic", prvCreateAccount="Basic", prvWriteAccount="Basic")
    dataverse.person("ann", basic)
    dataverse.person("bob", basic)
    mine = dataverse.ok("POST", "accounts", {"name": "ann's"}, user="ann")
    assert [row["name"] for row in dataverse.ok("GET", "accounts", user="ann")["value"]] == ["ann's"]
    assert dataverse.ok("GET", "accounts", user="bob")["value"] == []
    dataverse.fails(403, "0x80048306", "GET", f"accounts({mine})", user="bob")
    dataverse.fails(403, "0x80048306", "PATCH", f"accounts({mine})", {"name": "x"}, user="bob")
    dataverse.ok("PATCH", f"accounts({mine})", {"name": "x"}, user="ann")


def test_business_units_and_teams(dataverse: Dataverse) -> None:
    root = dataverse.ok("GET", "businessunits")["value"][0]["businessunitid"]
    child = dataverse.ok(
        "POST", "businessunits", {"name": "North", "parentbusinessunitid@odata.bind": f"/businessunits({root})"}
    )
    deep, local = role(dataverse, "Deep", prvReadAccount="Deep"), role(dataverse, "Local", prvReadAccount="Local")
    dataverse.person("boss", deep)
    dataverse.person("peer", local)
    worker = dataverse.person("worker", role(dataverse, "Work", prvCreateAccount="Basic", prvReadAccount="Basic"))
    dataverse.ok("PATCH", f"systemusers({worker})", {"businessunitid@odata.bind": f"/businessunits({child})"})
    dataverse.ok("POST", "accounts", {"name": "north"}, user="worker")
    assert len(dataverse.ok("GET", "accounts", user="boss")["value"]) == 1
    assert dataverse.ok("GET", "accounts", user="peer")["value"] == []
    dataverse.ok("DELETE", f"accounts({dataverse.ok('GET', 'accounts')['value'][0]['accountid']})")
    team = dataverse.ok("POST", "teams", {"name": "T", "businessunitid@odata.bind": f"/businessunits({root})"})
    dataverse.ok(
        "POST", f"teams({team})/teammembership_association/$ref", {"@odata.id": f"{ROOT}systemusers({worker})"}
    )
    dataverse.ok("POST", "accounts", {"name": "of the team", "ownerid@odata.bind": f"/teams({team})"})
    assert [row["name"] for row in dataverse.ok("GET", "accounts", user="worker")["value"]] == ["of the team"]


def test_shares(dataverse: Dataverse) -> None:
    ann = dataverse.person("ann", role(dataverse, "R", prvReadAccount="Basic", prvWriteAccount="Basic"))
    row = dataverse.ok("POST", "accounts", {"name": "A"})
    target = {"@odata.type": "Microsoft.Dynamics.CRM.account", "accountid": row}
    principal = {"@odata.type": "Microsoft.Dynamics.CRM.systemuser", "systemuserid": ann}
    dataverse.fails(403, "0x80048306", "GET", f"accounts({row})", user="ann")
    access = {"Principal": principal, "AccessMask": "ReadAccess"}
    dataverse.ok("POST", "GrantAccess", {"Target": target, "PrincipalAccess": access})
    assert dataverse.ok("GET", f"accounts({row})", user="ann")["name"] == "A"
    dataverse.fails(403, "0x80048306", "PATCH", f"accounts({row})", {"name": "x"}, user="ann")
    query = f"systemusers({ann})/Microsoft.Dynamics.CRM.RetrievePrincipalAccess(Target=@t)?@t={{'@odata.id':'accounts({row})'}}"
    assert dataverse.ok("GET", query)["AccessRights"] == "ReadAccess"
    dataverse.ok("POST", "RevokeAccess", {"Target": target, "Revokee": principal})
    assert dataverse.ok("GET", "accounts", user="ann")["value"] == []


def test_append_rights_are_needed_to_point_at_a_row(dataverse: Dataverse) -> None:
    rights = {"prvCreateContact": "Basic", "prvReadContact": "Basic", "prvReadAccount": "Global"}
    dataverse.person("weak", role(dataverse, "Weak", **rights))
    dataverse.person("able", role(dataverse, "Able", **rights, prvAppendContact="Basic", prvAppendToAccount="Global"))
    account = dataverse.ok("POST", "accounts", {"name": "A"})
    body: dict[str, Any] = {"lastname": "B", "parentcustomerid_account@odata.bind": f"/accounts({account})"}
    dataverse.fails(403, "0x80040220", "POST", "contacts", body, user="weak")
    dataverse.ok("POST", "contacts", body, user="able")


def test_secured_columns(dataverse: Dataverse) -> None:
    table = dataverse.table()
    dataverse.ok("POST", f"{table}/Attributes", column("String", "new_Secret", IsSecured=True))
    everything = {f"prv{verb}new_Thing": "Global" for verb in ("Create", "Read", "Write")}
    reader = dataverse.person("reader", role(dataverse, "Things", **everything))
    row = dataverse.ok("POST", "new_things", {"new_secret": "s"})
    assert dataverse.ok("GET", f"new_things({row})", user="reader")["new_secret"] is None
    dataverse.fails(403, "0x8004f508", "PATCH", f"new_things({row})", {"new_secret": "x"}, user="reader")
    profile = dataverse.ok("POST", "fieldsecurityprofiles", {"name": "P"})
    dataverse.ok(
        "POST",
        "fieldpermissions",
        {
            "entityname": "new_thing",
            "attributelogicalname": "new_secret",
            "canread": 4,
            "fieldsecurityprofileid@odata.bind": f"/fieldsecurityprofiles({profile})",
        },
    )
    dataverse.ok(
        "POST",
        f"systemusers({reader})/systemuserprofiles_association/$ref",
        {"@odata.id": f"{ROOT}fieldsecurityprofiles({profile})"},
    )
    assert dataverse.ok("GET", f"new_things({row})", user="reader")["new_secret"] == "s"


def test_impersonation_takes_the_rights_that_both_have(dataverse: Dataverse) -> None:
    clerk = dataverse.person("clerk", role(dataverse, "Clerk", prvCreateAccount="Basic", prvReadAccount="Basic"))
    row = dataverse.ok("POST", "accounts", {"name": "A"}, MSCRMCallerID=clerk)
    read = dataverse.ok("GET", f"accounts({row})?$select=_createdby_value,_createdonbehalfby_value,_ownerid_value")
    assert (read["_createdby_value"], read["_createdonbehalfby_value"]) == (clerk, dataverse.admin)
    dataverse.fails(403, "0x80040220", "DELETE", f"accounts({row})", MSCRMCallerID=clerk)
    identity = dataverse.people["clerk"].object_id or ""
    assert len(dataverse.ok("GET", "accounts", CallerObjectId=identity)["value"]) == 1
    dataverse.fails(403, "0x8004a110", "GET", "accounts", user="clerk", MSCRMCallerID=dataverse.admin)


def test_who_may_come_in(dataverse: Dataverse) -> None:
    answer = dataverse.send("GET", "WhoAmI", user="nobody")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == (
        "Bearer authorization_uri=https://login.example/t, resource_id=https://org.example/"
    )
    dataverse.people["stranger"] = type(dataverse.people["admin"])("00000000-0000-0000-0000-000000000009", None)
    dataverse.fails(403, "0x80072560", "GET", "WhoAmI", user="stranger")
    dataverse.person("roleless")
    dataverse.fails(403, "0x80042f09", "GET", "accounts", user="roleless")
    user = dataverse.person("gone", "System Administrator")
    assert dataverse.ok("GET", "WhoAmI", user="gone")["UserId"] == user
    dataverse.ok("PATCH", f"systemusers({user})", {"isdisabled": True})
    dataverse.fails(403, "0x80040225", "GET", "WhoAmI", user="gone")


@pytest.mark.parametrize("path", ["accounts", "invoices", "systemusers"])
def test_expanded_rows_obey_the_same_rights(dataverse: Dataverse, path: str) -> None:
    dataverse.person("reader", role(dataverse, "R", prvReadContact="Global"))
    account = dataverse.ok("POST", "accounts", {"name": "hidden"})
    dataverse.ok("POST", "contacts", {"lastname": "L", "parentcustomerid_account@odata.bind": f"/accounts({account})"})
    query = "contacts?$select=lastname&$expand=parentcustomerid_account($select=name)"
    dataverse.fails(403, "0x80040220", "GET", query, user="reader")
    dataverse.fails(403, "0x80040220", "GET", path, user="reader")


def test_a_new_user_has_settings_and_is_an_owner(dataverse: Dataverse) -> None:
    unit = dataverse.ok("GET", "businessunits")["value"][0]["businessunitid"]
    body = {"firstname": "Ann", "lastname": "Lee", "businessunitid@odata.bind": f"/businessunits({unit})"}
    user = dataverse.ok("POST", "systemusers", body)
    assert dataverse.ok("GET", f"usersettingscollection({user})")["uilanguageid"] == 1033
    assert dataverse.ok("GET", f"systemusers(ownerid={user})?$select=fullname")["fullname"] == "Ann Lee"
    dataverse.ok("PATCH", f"systemusers(ownerid={user})", {"lastname": "Ray"})
    assert dataverse.ok("GET", f"systemusers({user})?$select=fullname")["fullname"] == "Ann Ray"
    dataverse.fails(400, "0x80060890", "GET", f"accounts(ownerid={user})")
