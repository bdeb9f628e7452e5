"""Who can sign in: the environment's users, and three examples of them."""

from dataclasses import dataclass
from uuid import UUID, uuid5

from dataverse_schema.api import WebApi
from local.dynamics.sales import SALESPERSON

_IDS = UUID("9b1c0a52-1f5e-4a2f-8c8e-0f4d3c2b1a09")
_EXAMPLES = {
    ("Clara", "Clerk"): (SALESPERSON, "Loyalty clerk"),
    ("Adam", "Admin"): (SALESPERSON, "Loyalty admin"),
    ("Sam", "Salesperson"): (SALESPERSON,),
}
_READ_WRITE = 0


@dataclass(frozen=True)
class Person:
    """`privileges` are lower-case names."""

    id: str
    name: str
    roles: tuple[str, ...]
    privileges: frozenset[str] = frozenset()


def people(api: WebApi) -> list[Person]:
    """Everybody who may use the browser, the examples made or completed first: our roles may have come in the meantime."""
    _examples(api)
    rows = api.rows(
        f"systemusers?$select=fullname&$filter=accessmode eq {_READ_WRITE} and isdisabled eq false"
        "&$expand=systemuserroles_association($select=name)&$orderby=fullname"
    )
    return [Person(row["systemuserid"], row["fullname"], _roles(row)) for row in rows]


def person(api: WebApi, user_id: str) -> Person:
    """One user with what they may do; LookupError if there is none."""
    row = api.get(f"systemusers({user_id})?$select=fullname&$expand=systemuserroles_association($select=name)")
    if row is None:
        raise LookupError(user_id)
    found = api.get(f"systemusers({user_id})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges") or {}
    privileges = frozenset(right["PrivilegeName"].lower() for right in found["RolePrivileges"])
    return Person(user_id, row["fullname"], _roles(row), privileges)


def _roles(row: dict[str, list[dict[str, str]]]) -> tuple[str, ...]:
    return tuple(sorted(role["name"] for role in row["systemuserroles_association"]))


def _examples(api: WebApi) -> None:
    units = api.rows("businessunits?$select=businessunitid&$filter=_parentbusinessunitid_value eq null")
    roles = {row["name"]: row["roleid"] for row in api.rows("roles?$select=name,roleid")}
    for (first, last), wanted in _EXAMPLES.items():
        user_id = str(uuid5(_IDS, f"{first} {last}"))
        path = f"systemusers({user_id})?$select=fullname&$expand=systemuserroles_association($select=name)"
        row = api.get(path)
        if row is None:
            api.create(
                "systemusers",
                {
                    "systemuserid": user_id,
                    "firstname": first,
                    "lastname": last,
                    "domainname": f"{first}.{last}@local.test".lower(),
                    "businessunitid@odata.bind": f"/businessunits({units[0]['businessunitid']})",
                },
            )
            row = api.get(path)
        held = _roles(row) if row else ()
        for name in wanted:
            if name in roles and name not in held:
                reference = {"@odata.id": f"{api.root()}roles({roles[name]})"}
                api.create(f"systemusers({user_id})/systemuserroles_association/$ref", reference)
