"""The reference pages say what the source says."""

from pathlib import Path

import pytest

from dataverse_schema.cli import main
from dataverse_schema.interface import load_interface
from dataverse_schema.model import load
from dataverse_schema.reference import reference

PAGES = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", ["tables.md", "events.md", "roles.md"])
def test_the_page_in_docs_is_current(name: str) -> None:
    model = load()
    assert (PAGES / name).read_text() == reference(model, load_interface(model))[name], (
        "python -m dataverse_schema reference"
    )


def test_an_outdated_page_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--out", str(tmp_path)]) == 0
    assert main(["reference", "--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "events.md").write_text("old")
    assert main(["reference", "--out", str(tmp_path), "--check"]) == 1
    assert "events.md" in capsys.readouterr().err
