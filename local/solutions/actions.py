"""ImportSolution, ImportSolutionAsync and StageSolution. Importing this module registers them."""

import base64
import binascii
import threading
import uuid
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from local.dataverse.actions import Parameters, action, answer
from local.dataverse.errors import Fault, bad_request
from local.dataverse.responses import Response, no_content
from local.dataverse.security import Caller, require_special
from local.dataverse.values import guid, timestamp
from local.solutions import importer, removal  # noqa: F401 - deleting a solution
from local.solutions.package import Package, read

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_SUCCEEDED, _FAILED, _IMPORT_JOB_TYPE = 30, 31, 93


class _State:
    """Of one environment: packages that were staged, and whether an import is under way."""

    def __init__(self) -> None:
        self.staged: dict[str, bytes] = {}
        self.importing = threading.Lock()


_states: "WeakKeyDictionary[Environment, _State]" = WeakKeyDictionary()


def _state(env: "Environment") -> _State:
    return _states.setdefault(env, _State())


def _file(env: "Environment", parameters: Parameters) -> bytes:
    staged = parameters.get("SolutionParameters")
    if isinstance(staged, dict) and staged.get("StageSolutionUploadId"):
        found = _state(env).staged.get(str(staged["StageSolutionUploadId"]))
        if found is None:
            raise bad_request("The parameter 'StageSolutionUploadId' names nothing that was staged.")
        return found
    content = parameters.get("CustomizationFile")
    try:
        return base64.b64decode(content if isinstance(content, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise bad_request("The parameter 'CustomizationFile' must be base64.") from None


def _begin(env: "Environment") -> None:
    if not _state(env).importing.acquire(blocking=False):
        raise Fault(
            429, "0x80071151", "Cannot start another Import because there is a previous Import running at this moment.",
            retry_after=2,
        )  # fmt: skip


def _import(env: "Environment", caller: Caller, package: Package, job: str) -> None:
    with env.changing_metadata(caller) as unit:
        importer.apply(unit, package)
        unit.connection.execute(
            "INSERT OR REPLACE INTO importjob (importjobid, name, solutionname, progress, startedon, completedon, "
            "versionnumber) VALUES (?, ?, ?, 100, ?, ?, ?)",
            (job, "Customizations", package.name, unit.moment, unit.moment, env.next_version()),
        )


@action
def ImportSolution(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    require_special(request.caller, "prvImportCustomization")
    package = read(_file(env, parameters))
    _begin(env)
    try:
        _import(env, request.caller, package, guid(parameters.get("ImportJobId")) or str(uuid.uuid4()))
    finally:
        _state(env).importing.release()
    return no_content()


@action
def ImportSolutionAsync(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    """A package that cannot be read is refused at once; what is wrong inside it shows in the system job."""
    caller = request.caller
    require_special(caller, "prvImportCustomization")
    data = _file(env, parameters)
    _begin(env)
    operation, job = str(uuid.uuid4()), guid(parameters.get("ImportJobId")) or str(uuid.uuid4())
    try:
        with env.unit(caller) as unit:
            unit.connection.execute(
                "INSERT INTO asyncoperation (asyncoperationid, name, operationtype, statecode, statuscode, createdon, "
                'modifiedon, ownerid, "ownerid:type", owningbusinessunit, versionnumber) '
                "VALUES (?, 'Import Solution', ?, 0, 0, ?, ?, ?, 'systemuser', ?, ?)",
                (
                    operation,
                    _IMPORT_JOB_TYPE,
                    unit.moment,
                    unit.moment,
                    caller.user,
                    caller.business_unit,
                    env.next_version(),
                ),
            )
        env.add_job("import", lambda: _run(env, caller, data, operation, job))
    except BaseException:
        _state(env).importing.release()
        raise
    return answer(request, "ImportSolutionAsync", AsyncOperationId=operation, ImportJobKey=job)


def _run(env: "Environment", caller: Caller, data: bytes, operation: str, job: str) -> None:
    status, message = _SUCCEEDED, None
    try:
        _import(env, caller, read(data), job)
    except Fault as fault:
        status, message = _FAILED, fault.message
    except Exception as error:  # a job that dies must not look as if it were still running
        status, message = _FAILED, f"An unexpected error occurred: {type(error).__name__}."
        raise
    finally:
        _state(env).importing.release()
        with env.storage.writing() as writer:
            writer.execute(
                "UPDATE asyncoperation SET statecode = 3, statuscode = ?, message = ?, friendlymessage = ?, completedon = ?, "
                "versionnumber = ? WHERE asyncoperationid = ?",
                (status, message, message, timestamp(env.clock()), env.next_version(), operation),
            )


@action
def StageSolution(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    require_special(request.caller, "prvImportCustomization")
    data = _file(env, parameters)
    package, upload = read(data), str(uuid.uuid4())
    _state(env).staged[upload] = data
    details: dict[str, Any] = {
        "SolutionUniqueName": package.name, "SolutionFriendlyName": package.display, "SolutionVersion": package.version,
        "IsManaged": package.managed,
    }  # fmt: skip
    results = {"StageSolutionUploadId": upload, "StageSolutionStatus": "Passed", "SolutionValidationResults": [],
               "MissingDependencies": [], "SolutionDetails": details}  # fmt: skip
    return answer(request, "StageSolution", StageSolutionResults=results)
