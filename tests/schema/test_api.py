"""Waiting: for the lock on definitions, for keys, for an import. Clocks are told what time it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from connector.dataverse import DataverseError, Forbidden, Transient, Unauthorized
from connector.dataverse.errors import Terminal
from dataverse_schema.api import InstallError, WebApi, explained
from dataverse_schema.importing import import_solution, older
from dataverse_schema.model import Model
from dataverse_schema.tables import wait_for_keys
from tests.stopwatch import Stopwatch

from .fakes import Answer

LOCKED = Terminal("another customisation is under way", status=400, code=0x80071151)


@dataclass
class Script:
    """Answers in turn; an exception is raised. The last one stays."""

    answers: list[Any]
    calls: list[tuple[str, str, Any]] = field(default_factory=list)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        self.calls.append((method, path, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Answer(answer)


def test_somebody_else_s_customisation_is_waited_for() -> None:
    clock, script = Stopwatch(), Script([LOCKED, LOCKED, {}])
    WebApi(script, sleep=clock.sleep).create("EntityDefinitions", {})
    assert len(script.calls) == 3
    assert clock.now == 7


def test_a_lock_that_never_ends_is_said() -> None:
    clock = Stopwatch()
    with pytest.raises(DataverseError, match="another customisation"):
        WebApi(Script([LOCKED]), sleep=clock.sleep).create("EntityDefinitions", {})
    assert 300 < clock.now < 900


def keys_in(state: str, model: Model) -> dict[str, Any]:
    names = [key.schema_name for table in model.own_tables for key in table.keys]
    return {"value": [{"SchemaName": name, "EntityKeyIndexStatus": state} for name in names]}


def test_keys_are_waited_for(model: Model) -> None:
    clock = Stopwatch()
    script = Script([keys_in("Pending", model), keys_in("InProgress", model), keys_in("Active", model)])
    wait_for_keys(WebApi(script), model, clock=clock, sleep=clock.sleep)
    assert clock.now > 0


def test_a_failed_key_is_tried_once_more(model: Model) -> None:
    clock = Stopwatch()
    script = Script([keys_in("Failed", model), {}, keys_in("Active", model)])
    wait_for_keys(WebApi(script), model, clock=clock, sleep=clock.sleep)
    assert [path for method, path, _ in script.calls if method == "POST"] == ["ReactivateEntityKey"]


def test_a_key_that_fails_again_names_its_columns(model: Model) -> None:
    clock = Stopwatch()
    with pytest.raises(InstallError, match="holds two rows with the same loy_code"):
        wait_for_keys(WebApi(Script([keys_in("Failed", model)])), model, clock=clock, sleep=clock.sleep)


def test_an_index_that_takes_too_long_is_said(model: Model) -> None:
    clock = Stopwatch()
    with pytest.raises(InstallError, match="still building the index of loy_ProgramCodeKey"):
        wait_for_keys(WebApi(Script([keys_in("Pending", model)])), model, clock=clock, sleep=clock.sleep)


STARTED = {"AsyncOperationId": "a1", "ImportJobKey": "j1"}


def test_an_import_is_waited_for_and_keeps_what_the_company_customised() -> None:
    clock = Stopwatch()
    script = Script([STARTED, {"statecode": 0}, {"statecode": 2}, {"statecode": 3, "statuscode": 30}])
    import_solution(WebApi(script), b"zip", clock=clock, sleep=clock.sleep)
    method, path, body = script.calls[0]
    assert (method, path) == ("POST", "ImportSolutionAsync")
    assert base64.b64decode(body["CustomizationFile"]) == b"zip"
    assert body["OverwriteUnmanagedCustomizations"] is False


def test_a_failed_import_gives_dataverse_s_reason() -> None:
    clock = Stopwatch()
    failed = {"statecode": 3, "statuscode": 31, "friendlymessage": "Entity x was not found"}
    with pytest.raises(InstallError, match="could not import the solution: Entity x was not found"):
        import_solution(WebApi(Script([STARTED, failed])), b"zip", clock=clock, sleep=clock.sleep)


def test_an_import_that_never_ends_is_said() -> None:
    clock = Stopwatch()
    with pytest.raises(InstallError, match="still under way after an hour"):
        import_solution(WebApi(Script([STARTED, {"statecode": 2}])), b"zip", clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize(
    ("installed", "ours", "is_older"),
    [("0.1.0.0", "0.1.0.0", False), ("0.9.0.0", "0.10.0.0", True), ("1.0.0.0", "0.9.9.9", False)],
)
def test_versions_are_compared_as_numbers(installed: str, ours: str, is_older: bool) -> None:
    assert older(installed, ours) is is_older


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Transient("connection refused"), "does not answer"),
        (Unauthorized("no token", status=401), "does not let us in"),
        (Forbidden("prvCreateEntity is missing", status=403), "System Administrator or System Customizer"),
        (Forbidden("not a member", status=403, code=0x80072560), "is no user of the environment"),
        (Terminal("strange", status=418, code=0x80041234), "answers 418 0x80041234: strange"),
    ],
)
def test_each_error_is_a_sentence_that_says_what_to_do(error: DataverseError, said: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(InstallError, match=rf"^Create table x: .*{said}"):
        explained("Create table x", fail)
