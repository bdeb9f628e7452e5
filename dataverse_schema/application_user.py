"""The connector's role for the connector's application user."""

from __future__ import annotations

from collections.abc import Iterator

from .api import InstallError, Json, WebApi, text
from .interface import Role
from .tables import Action


def plan_assignment(api: WebApi, client_id: str, role: Role) -> Iterator[Action]:
    """Give `role` to the application user of an app registration, unless it has it."""
    users = api.rows(
        f"systemusers?$select=systemuserid,fullname,_businessunitid_value&$filter=applicationid eq {client_id}"
    )
    if not users:
        raise InstallError(
            f"There is no application user for client id {client_id}. Add it in the Power Platform admin centre "
            "(Environments, Settings, Application users), then run again."
        )
    user = users[0]
    held = api.rows(f"systemusers({user['systemuserid']})/systemuserroles_association?$select=name")
    if role.name not in {row["name"] for row in held}:
        title = f"Give role {role.name} to application user {user.get('fullname') or client_id}"
        yield Action(title, lambda api: _assign(api, user, role))


def _assign(api: WebApi, user: Json, role: Role) -> None:
    # Each business unit has its own copy of a role, and a user can hold only that of its own.
    unit = user["_businessunitid_value"]
    copies = api.rows(f"roles?$select=roleid&$filter=name eq {text(role.name)} and _businessunitid_value eq {unit}")
    if not copies:
        raise InstallError(f"Role {role.name} does not exist in the business unit of the application user.")
    api.create(
        f"systemusers({user['systemuserid']})/systemuserroles_association/$ref",
        {"@odata.id": f"{api.root()}roles({copies[0]['roleid']})"},
    )
