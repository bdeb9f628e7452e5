"""`uninstall` of a managed installation, over HTTPS: nothing of it is left, everything of the company's is."""

from __future__ import annotations

import re

import pytest

from connector.dataverse import Create, DataverseClient
from dataverse_schema.api import InstallError, WebApi
from dataverse_schema.deploy import Choices, deploy
from dataverse_schema.interface import Interface
from dataverse_schema.model import Model
from dataverse_schema.package import solution_zip
from dataverse_schema.rows import programs
from dataverse_schema.uninstall import uninstall
from tests.schema.conftest import CONNECTOR, QUEUE, certificates, client, new_home, world
from tests.schema.test_import import ACCOUNT_FORM, names, silent

__all__ = ["certificates", "client", "new_home", "world"]  # fixtures


def test_uninstalling_a_managed_installation_leaves_nothing_and_keeps_the_company(
    client: DataverseClient, model: Model, interface: Interface
) -> None:
    form = {"name": "Account", "objecttypecode": "account", "type": 2, "formid": ACCOUNT_FORM}
    client.commit(
        [Create("systemforms", form | {"formxml": '<form><tabs><tab name="SUMMARY_TAB" id="{1}" /></tabs></form>'})]
    )
    tables = names(client)
    choices = Choices(
        interface=interface,
        queue=QUEUE,
        program=programs(model)["MAIN"],
        application_user=CONNECTOR,
        package=solution_zip(model, interface, managed=True),
    )
    deploy(client, model, choices, say=silent)
    client.commit([Create("accounts", {"name": "Adatum", "loy_pointsbalance": 5})])
    with pytest.raises(InstallError, match="cannot be undone"):
        uninstall(client, model, interface, say=silent)
    done = uninstall(client, model, interface, with_data=True, say=silent)
    assert done[-2:] == ["Delete managed solution LoyaltyConnector", "Delete publisher loyaltyconnector"]
    api = WebApi(client)
    assert names(client) == tables
    assert [row["name"] for row in api.rows("accounts?$select=name")] == ["Adatum"]
    left = (api.get(f"systemforms({ACCOUNT_FORM})") or {})["formxml"]
    assert re.findall(r'<tab name="(\w+)"', left) == ["SUMMARY_TAB"]
    assert (
        api.rows("roles?$filter=startswith(name,'Loyalty')")
        == api.rows("webresourceset")
        == api.rows("appmodules")
        == []
    )
    assert uninstall(client, model, interface, with_data=True, say=silent) == []
    assert deploy(client, model, choices, say=silent)[0].startswith("Import the managed solution")
