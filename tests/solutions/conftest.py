"""Environments with our solution, made once: each test starts from a copy."""

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dataverse_schema.interface import Interface, load_interface
from dataverse_schema.model import Model, load
from dataverse_schema.package import solution_zip
from tests.dataverse.conftest import Dataverse
from tests.dataverse.conftest import dataverse as dataverse
from tests.dataverse.conftest import template as template

ACCOUNT_FORM = "8448b78f-8f42-454e-8e2a-f8196b0419af"
NAME = "LoyaltyConnector"


@pytest.fixture(scope="session")
def model() -> Model:
    return load()


@pytest.fixture(scope="session")
def interface(model: Model) -> Interface:
    return load_interface(model)


Open = Callable[[Path], Dataverse]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens copies of environments; closes them."""
    made: list[Dataverse] = []

    def copy(source: Path) -> Dataverse:
        path = tmp_path / f"{len(made)}.db"
        shutil.copyfile(source, path)
        made.append(Dataverse(path))
        return made[-1]

    yield copy
    for each in made:
        each.env.close()


def import_zip(dataverse: Dataverse, data: bytes, **more: Any) -> None:
    dataverse.ok("POST", "ImportSolution", {"CustomizationFile": base64.b64encode(data).decode(), **more})
    dataverse.env.run_jobs()


def export(dataverse: Dataverse, name: str = NAME, *, managed: bool = False) -> bytes:
    answer = dataverse.ok("POST", "ExportSolution", {"SolutionName": name, "Managed": managed})
    return base64.b64decode(answer["ExportSolutionFile"])


def solution(dataverse: Dataverse, name: str) -> str:
    """The id of an installed solution."""
    return str(
        dataverse.ok("GET", f"solutions?$select=uniquename&$filter=uniquename eq '{name}'")["value"][0]["solutionid"]
    )


def new_solution(dataverse: Dataverse, name: str, prefix: str = "acme") -> dict[str, str]:
    """An unmanaged solution of a new publisher; answers the header under which things are made in it."""
    publisher = {
        "uniquename": f"{name}publisher", "friendlyname": name, "customizationprefix": prefix,
        "customizationoptionvalueprefix": 30_000,
    }  # fmt: skip
    row = dataverse.ok("POST", "publishers", publisher)
    body = {
        "uniquename": name,
        "friendlyname": name,
        "version": "1.2.3.4",
        "publisherid@odata.bind": f"/publishers({row})",
    }
    dataverse.ok("POST", "solutions", body)
    return {"MSCRM.SolutionUniqueName": name}


@pytest.fixture(scope="session")
def managed_home(template: Path, model: Model, interface: Interface, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The managed solution, imported where the company has an account form of its own."""
    path = tmp_path_factory.mktemp("managed") / "dataverse.db"
    shutil.copyfile(template, path)
    dataverse = Dataverse(path)
    formxml = '<form><tabs><tab name="SUMMARY_TAB" id="{1}" /></tabs></form>'
    form = {"name": "Account", "objecttypecode": "account", "type": 2, "formxml": formxml, "formid": ACCOUNT_FORM}
    dataverse.ok("POST", "systemforms", form)
    import_zip(dataverse, solution_zip(model, interface, managed=True))
    dataverse.env.storage.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    dataverse.env.close()
    return path


@pytest.fixture
def managed(managed_home: Path, opened: Open) -> Dataverse:
    return opened(managed_home)
