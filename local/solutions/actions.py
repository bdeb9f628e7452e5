"""ImportSolution, ExportSolution, both also as system jobs, and StageSolution. Importing this module registers them."""

import base64
import binascii
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from local.dataverse.actions import Parameters, action, answer
from local.dataverse.errors import Fault, bad_request
from local.dataverse.responses import Response, no_content
from local.dataverse.security import Caller, require_special
from local.dataverse.values import guid, timestamp
from local.solutions import exporter, importer, removal  # noqa: F401 - deleting a solution
from local.solutions.package import Package, read

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request

_SUCCEEDED, _FAILED, _IMPORT_JOB_TYPE, _EXPORT_JOB_TYPE = 30, 31, 93, 202


class _State:
    """Of one environment: packages that were staged or exported (until it is closed), and whether an import is under way."""

    def __init__(self) -> None:
        self.staged: dict[str, bytes] = {}
        self.exported: dict[str, bytes] = {}
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
    job = guid(parameters.get("ImportJobId")) or str(uuid.uuid4())
    try:
        operation = _waiting(env, caller, "Import Solution", _IMPORT_JOB_TYPE)
        env.add_job("import", lambda: _run(env, caller, data, operation, job))
    except BaseException:
        _state(env).importing.release()
        raise
    return answer(request, "ImportSolutionAsync", AsyncOperationId=operation, ImportJobKey=job)


def _waiting(env: "Environment", caller: Caller, name: str, kind: int) -> str:
    """The id of a new system job."""
    operation = str(uuid.uuid4())
    with env.unit(caller) as unit:
        unit.connection.execute(
            "INSERT INTO asyncoperation (asyncoperationid, name, operationtype, statecode, statuscode, createdon, "
            'modifiedon, ownerid, "ownerid:type", owningbusinessunit, versionnumber) '
            "VALUES (?, ?, ?, 0, 0, ?, ?, ?, 'systemuser', ?, ?)",
            (operation, name, kind, unit.moment, unit.moment, caller.user, caller.business_unit, env.next_version()),
        )
    return operation


def _run(env: "Environment", caller: Caller, data: bytes, operation: str, job: str) -> None:
    try:
        _finish(env, operation, lambda: _import(env, caller, read(data), job))
    finally:
        _state(env).importing.release()


def _finish(env: "Environment", operation: str, work: Callable[[], None]) -> None:
    """Does the work of a system job and notes how it ended."""
    status, message = _SUCCEEDED, None
    try:
        work()
    except Fault as fault:
        status, message = _FAILED, fault.message
    except Exception as error:  # a job that dies must not look as if it were still running
        status, message = _FAILED, f"An unexpected error occurred: {type(error).__name__}."
        raise
    finally:
        with env.storage.writing() as writer:
            writer.execute(
                "UPDATE asyncoperation SET statecode = 3, statuscode = ?, message = ?, friendlymessage = ?, completedon = ?, "
                "versionnumber = ? WHERE asyncoperationid = ?",
                (status, message, message, timestamp(env.clock()), env.next_version(), operation),
            )


# --- export ---

_SETTINGS = (
    "ExportAutoNumberingSettings", "ExportCalendarSettings", "ExportCustomizationSettings", "ExportEmailTrackingSettings",
    "ExportGeneralSettings", "ExportIsvConfig", "ExportMarketingSettings", "ExportOutlookSynchronizationSettings",
    "ExportRelationshipRoles", "ExportSales",
)  # fmt: skip


def _export(env: "Environment", caller: Caller, parameters: Parameters) -> bytes:
    """The zip. Settings of the organisation are no components and cannot be exported here."""
    name, managed = parameters.get("SolutionName"), parameters.get("Managed")
    if not isinstance(name, str) or not name:
        raise bad_request("The parameter 'SolutionName' is missing.")
    if not isinstance(managed, bool):
        raise bad_request("The parameter 'Managed' must be true or false.")
    wanted = [setting for setting in _SETTINGS if parameters.get(setting)]
    if wanted:
        raise Fault(
            400,
            exporter.EXPORT_ERROR,
            f"An error occurred while exporting a Solution. '{wanted[0]}' is not supported here.",
        )
    with env.unit(caller) as unit:
        return exporter.export(unit, name, managed=managed)


@action
def ExportSolution(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    require_special(request.caller, "prvExportCustomization")
    data = _export(env, request.caller, parameters)
    return answer(request, "ExportSolution", ExportSolutionFile=base64.b64encode(data).decode())


@action
def ExportSolutionAsync(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    """What is wrong shows in the system job; its file is fetched with DownloadSolutionExportData."""
    caller = request.caller
    require_special(caller, "prvExportCustomization")
    job = str(uuid.uuid4())

    def work() -> None:
        _state(env).exported[job] = _export(env, caller, parameters)

    operation = _waiting(env, caller, "Export Solution", _EXPORT_JOB_TYPE)
    env.add_job("export", lambda: _finish(env, operation, work))
    return answer(request, "ExportSolutionAsync", AsyncOperationId=operation, ExportJobId=job)


@action
def DownloadSolutionExportData(env: "Environment", request: "Request", parameters: Parameters) -> Response:
    require_special(request.caller, "prvExportCustomization")
    job = str(parameters.get("ExportJobId"))
    data = _state(env).exported.get(guid(job) or "")
    if data is None:
        raise Fault(404, "0x80040217", f"ExportSolutionUpload With Id = {job[:60]} Does Not Exist")
    return answer(request, "DownloadSolutionExportData", ExportSolutionFile=base64.b64encode(data).decode())


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
