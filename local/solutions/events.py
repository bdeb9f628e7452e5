"""Service endpoints and plug-in steps of a package."""

from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from local.dataverse.errors import Fault
from local.solutions.package import IMPORT_ERROR, text

if TYPE_CHECKING:
    from local.solutions.importer import Holder

_ENDPOINT_TYPE = "4618"
_ENDPOINT = {
    "ConnectionMode": "connectionmode", "Contract": "contract", "Path": "path", "SolutionNamespace": "solutionnamespace",
    "UserClaim": "userclaim", "AuthType": "authtype", "MessageFormat": "messageformat",
    "NamespaceAddress": "namespaceaddress", "NamespaceFormat": "namespaceformat", "Url": "url",
}  # fmt: skip
_STEP = {
    "FilteringAttributes": "filteringattributes", "InvocationSource": "invocationsource", "Mode": "mode", "Rank": "rank",
    "Stage": "stage", "SupportedDeployment": "supporteddeployment",
}  # fmt: skip
_IMAGE = {
    "Attributes": "attributes", "EntityAlias": "entityalias", "ImageType": "imagetype",
    "MessagePropertyName": "messagepropertyname",
}  # fmt: skip


def bring(holder: "Holder") -> None:
    """A new endpoint has no secret: packages never hold one. That of an endpoint that is there stays."""
    schema, customizations = holder.unit.schema, holder.package.customizations
    for node in customizations.findall("ServiceEndpoints/ServiceEndpoint"):
        row = {"name": node.get("Name")} | _row(holder, node, "serviceendpoint", _ENDPOINT)
        holder.put(schema.tables["serviceendpoint"], _guid(node.get("ServiceEndpointId")), row)
    for node in customizations.findall("SdkMessageProcessingSteps/SdkMessageProcessingStep"):
        _step(holder, node)


def _step(holder: "Holder", node: Element) -> None:
    unit, name = holder.unit, node.get("Name", "")
    if text(node, "EventHandlerTypeCode") != _ENDPOINT_TYPE:
        raise Fault(400, IMPORT_ERROR, f"The step {name[:100]} runs a plug-in: plug-ins are not supported here.")
    table, message, endpoint = (
        text(node, "PrimaryEntity"),
        _guid(text(node, "SdkMessageId")),
        _guid(text(node, "EventHandler")),
    )
    found = unit.connection.execute(
        "SELECT sdkmessagefilterid FROM sdkmessagefilter WHERE sdkmessageid = ? AND primaryobjecttypecode = ?",
        (message, table.lower()),
    ).fetchone()
    known = unit.connection.execute("SELECT 1 FROM serviceendpoint WHERE serviceendpointid = ?", (endpoint,)).fetchone()
    if (table and found is None) or known is None:
        missing = f"no such message on '{table[:60]}'" if known else f"no service endpoint {endpoint[:60]}"
        raise Fault(400, IMPORT_ERROR, f"The step {name[:100]} cannot be registered: {missing}.")
    row = {
        "name": name,
        "asyncautodelete": text(node, "AsyncAutoDelete") == "1",
        "sdkmessageid@odata.bind": f"/sdkmessages({message})",
        "eventhandler_serviceendpoint@odata.bind": f"/serviceendpoints({endpoint})",
    } | _row(holder, node, "sdkmessageprocessingstep", _STEP)
    if found:
        row["sdkmessagefilterid@odata.bind"] = f"/sdkmessagefilters({found[0]})"
    step = _guid(node.get("SdkMessageProcessingStepId"))
    holder.put(unit.schema.tables["sdkmessageprocessingstep"], step, row)
    bind = {"sdkmessageprocessingstepid@odata.bind": f"/sdkmessageprocessingsteps({step})"}
    for image in node.iter("SdkMessageProcessingStepImage"):
        row = {"name": image.get("Name")} | _row(holder, image, "sdkmessageprocessingstepimage", _IMAGE) | bind
        holder.put(
            unit.schema.tables["sdkmessageprocessingstepimage"],
            _guid(text(image, "SdkMessageProcessingStepImageId")),
            row,
        )


def _row(holder: "Holder", node: Element, table: str, names: dict[str, str]) -> dict[str, Any]:
    """Columns from the elements that are there."""
    columns = holder.unit.schema.tables[table].columns
    row: dict[str, Any] = {}
    for tag, name in names.items():
        given = text(node, tag)
        if node.find(tag) is not None:
            number = columns[name].type in ("Picklist", "Integer")
            row[name] = (int(given) if number else given) if given else None
    return row


def _guid(value: str | None) -> str:
    return (value or "").strip().strip("{}").lower()
