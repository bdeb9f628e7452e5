"""The dependency audit of continuous integration: red for a known vulnerability, plain words where nobody answers."""

import json
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / ".ci" / "audit.py"
SOUND = {"name": "requests", "version": "2.34.2", "vulns": []}
BROKEN = {"name": "old", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location("dependency_audit", FILE)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "venv", SimpleNamespace(create=lambda *_, **__: None))
    return module


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (json.dumps({"dependencies": [SOUND]}), 0, "1 packages audited, 0 known"),
        (json.dumps({"dependencies": [SOUND, BROKEN]}), 1, "old 1.0: CVE-1, mended in 1.1"),
        ("", 0, "NOT audited"),
        (subprocess.TimeoutExpired("pip", 1), 0, "NOT audited"),
        (subprocess.CalledProcessError(1, "pip"), 0, "NOT audited"),
    ],
)
def test_what_the_tool_answers(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: Any,
    status: int,
    said: str,
) -> None:
    def run(*_: Any, **__: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.main("site-packages") == status
    assert said in capsys.readouterr().out
