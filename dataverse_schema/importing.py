"""Importing the solution zip, and waiting for the result."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from uuid import uuid4

from .api import InstallError, WebApi

_DEADLINE = 3600.0
_POLL = 5.0
_COMPLETED, _SUCCEEDED = 3, 30


def import_solution(
    api: WebApi,
    package: bytes,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Raises `InstallError` with Dataverse's reason when the import fails. What the company has customised stays."""
    answer = api.call(
        "ImportSolutionAsync",
        {
            "CustomizationFile": base64.b64encode(package).decode("ascii"),
            "OverwriteUnmanagedCustomizations": False,
            "PublishWorkflows": True,
            "ImportJobId": str(uuid4()),
        },
    )
    started = clock()
    path = f"asyncoperations({answer['AsyncOperationId']})?$select=statecode,statuscode,message,friendlymessage"
    while True:
        job = api.get(path)
        if job and job["statecode"] == _COMPLETED:
            break
        if clock() - started > _DEADLINE:
            raise InstallError(
                "The import is still under way after an hour. Look at Solutions, History, then run again."
            )
        sleep(_POLL)
    if job["statuscode"] != _SUCCEEDED:
        reason = job.get("friendlymessage") or job.get("message") or "it gives no reason"
        raise InstallError(f"Dataverse could not import the solution: {reason}")


def older(installed: str, ours: str) -> bool:
    """Whether version `installed` comes before `ours`."""
    return _numbers(installed) < _numbers(ours)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
