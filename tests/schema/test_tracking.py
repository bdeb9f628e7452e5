"""Change tracking of Dynamics' own tables is switched on where it is off."""

from typing import Any

import pytest

from connector.dataverse import DataverseClient
from dataverse_schema.api import InstallError, WebApi
from dataverse_schema.model import Model
from dataverse_schema.tracking import plan_tracking

from .conftest import World


def tracked(client: DataverseClient) -> bool:
    found: dict[str, Any] = client.request("GET", "EntityDefinitions(LogicalName='invoice')").json()
    return bool(found["ChangeTrackingEnabled"])


def test_it_is_switched_on_once(world: World, client: DataverseClient, model: Model) -> None:
    for table in ("invoice", "invoicedetail"):
        world.environment.schema.tables[table].change_tracking = False
    action, other = plan_tracking(WebApi(client), model)
    assert action.title == "Switch on change tracking of invoice"
    assert other.title == "Switch on change tracking of invoicedetail"
    assert not tracked(client)
    action.run(WebApi(client))
    assert tracked(client)
    other.run(WebApi(client))
    assert list(plan_tracking(WebApi(client), model)) == []


def test_a_table_that_is_not_there_is_named(client: DataverseClient, model: Model) -> None:
    solution = model.solution.model_copy(update={"change_tracking": ("invoices",)})
    with pytest.raises(InstallError, match="Table invoices does not exist"):
        list(plan_tracking(WebApi(client), model.model_copy(update={"solution": solution})))
