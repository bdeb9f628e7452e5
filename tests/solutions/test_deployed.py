"""What the installer makes step by step belongs to the solution: exported, it makes the same environment elsewhere."""

from pathlib import Path

import pytest

from dataverse_schema.interface import Interface
from dataverse_schema.model import Model
from tests.schema.conftest import certificates, everything, installed_home, new_home
from tests.solutions.conftest import Open, export, import_zip
from tests.solutions.test_export import contents

__all__ = ["certificates", "everything", "installed_home", "new_home"]  # fixtures


@pytest.mark.parametrize("managed", [False, True])
def test_an_installation_step_by_step_can_be_exported(
    opened: Open, template: Path, installed_home: Path, managed: bool, model: Model, interface: Interface
) -> None:
    first, second = opened(installed_home / "dataverse.sqlite"), opened(template)
    import_zip(second, export(first, managed=managed))
    found = contents(second)
    assert found == contents(first)
    assert len(found["sdkmessageprocessingsteps"]) == len(model.steps)
    assert len(found["appactions"]) == len(interface.command.tables)
    (view,) = (view for view in interface.views if view.name == "Gold customers")
    reference = f"@row={{'@odata.id':'savedqueries({view.id})'}}&@column='name'"
    words = second.ok(
        "GET", f"RetrieveLocLabels(EntityMoniker=@row,AttributeName=@column,IncludeUnpublished=true)?{reference}"
    )
    assert [each["Label"] for each in words["Label"]["LocalizedLabels"]] == ["Gold customers", "Goldkunden"]
