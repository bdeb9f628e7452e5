"""Change tracking of standard tables. No solution of ours switches it on: the table belongs to Dynamics."""

from __future__ import annotations

from collections.abc import Iterator

from .api import InstallError, Json, WebApi, text
from .model import Model
from .tables import Action


def plan_tracking(api: WebApi, model: Model) -> Iterator[Action]:
    """Raises `InstallError` where it is off and may not be switched on."""
    for table in model.solution.change_tracking:
        path = f"EntityDefinitions(LogicalName={text(table)})"
        definition = api.get(path)
        if definition is None:
            raise InstallError(
                f"Table {table} does not exist in this environment. The connector needs Dynamics 365 Sales."
            )
        if definition.get("ChangeTrackingEnabled"):
            continue
        if not (definition.get("CanChangeTrackingBeEnabled") or {}).get("Value", True):
            raise InstallError(f"Change tracking of table {table} is off, and this environment does not let it be on.")
        yield _switch_on(table, path, definition)


def _switch_on(table: str, path: str, definition: Json) -> Action:
    # A definition is replaced as a whole, so it goes back as it came.
    body = {name: value for name, value in definition.items() if not name.startswith("@odata.")}
    body["@odata.type"] = "Microsoft.Dynamics.CRM.EntityMetadata"
    body["ChangeTrackingEnabled"] = True
    return Action(f"Switch on change tracking of {table}", lambda api: api.replace(path, body))
