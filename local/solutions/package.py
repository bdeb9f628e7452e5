"""Reading a solution package: what is in the zip, checked as far as Dataverse checks before it changes anything."""

import io
import re
import zipfile
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import ParseError, fromstring

from local.dataverse.errors import Fault

# Web service error codes, Microsoft Dataverse documentation.
BAD_ZIP, SCHEMA, IMPORT_ERROR = "0x80048060", "0x8004801a", "0x80048033"
MANAGED_OVER_UNMANAGED, UNMANAGED_OVER_MANAGED = "0x80048040", "0x80048041"
_NEEDED = ("solution.xml", "customizations.xml", "[Content_Types].xml")
_LARGEST = 512 * 1024 * 1024  # unpacked; a solution file may have 120 MB

# Parts of customizations.xml that the local Dataverse has no place for. Empty ones are in every export.
_UNSUPPORTED = (
    "Workflows", "Reports", "RoutingRules", "ConvertRules", "Slas", "MobileOfflineProfiles",
    "InteractionCentricDashboards", "CustomControls", "SolutionPluginAssemblies", "EntityDataProviders",
    "EntityDataSources", "CanvasApps", "connectionreferences", "AIModels", "ConnectionRoles", "Dialogs", "IsvConfig",
)  # fmt: skip
_FOLDERS = ("environmentvariabledefinitions", "WebResources", "appactions")


@dataclass(frozen=True)
class Package:
    """A solution package. `files`: member name -> bytes."""

    name: str
    display: str
    version: str
    managed: bool
    publisher: dict[str, Any]
    roots: list[dict[str, str]]
    customizations: Element
    files: dict[str, bytes]


def read(data: bytes) -> Package:
    """Raises `Fault` with the documented code."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _LARGEST:
                raise _bad_zip()
            files = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        raise _bad_zip() from None
    lower = {name.lower(): name for name in files}
    if any(name.lower() not in lower for name in _NEEDED):
        raise _bad_zip()
    manifest = _xml(files[lower["solution.xml"]], "solution.xml").find("SolutionManifest")
    customizations = _xml(files[lower["customizations.xml"]], "customizations.xml")
    if manifest is None or customizations.tag != "ImportExportXml":
        raise Fault(400, SCHEMA, "The import file is invalid: it holds no solution manifest.")
    for part in _UNSUPPORTED:
        found = customizations.find(part)
        if found is not None and len(found):
            raise unsupported(part)
    for name in files:
        folder = name.partition("/")[0]
        if "/" in name and folder not in _FOLDERS:
            raise unsupported(folder)
    publisher = manifest.find("Publisher")
    if publisher is None:
        raise Fault(400, SCHEMA, "The import file is invalid: the manifest names no publisher.")
    version = text(manifest, "Version")
    if not re.fullmatch(r"\d+(\.\d+){1,3}", version) or text(manifest, "Managed") not in ("0", "1"):
        raise Fault(400, SCHEMA, "The import file is invalid: the manifest's Version or Managed is wrong.")
    return Package(
        name=text(manifest, "UniqueName"),
        display=described(manifest, "LocalizedNames") or text(manifest, "UniqueName"),
        version=version,
        managed=text(manifest, "Managed") == "1",
        publisher={
            "uniquename": text(publisher, "UniqueName"),
            "friendlyname": described(publisher, "LocalizedNames") or text(publisher, "UniqueName"),
            "customizationprefix": text(publisher, "CustomizationPrefix"),
            "customizationoptionvalueprefix": int(text(publisher, "CustomizationOptionValuePrefix")),
        },
        roots=[dict(root.attrib) for root in manifest.iter("RootComponent")],
        customizations=customizations,
        files=files,
    )


def unsupported(part: str) -> Fault:
    return Fault(400, IMPORT_ERROR, f"The solution cannot be imported here: components of '{part}' are not supported.")


def text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def described(element: Element, path: str) -> str:
    """The first label under a list of texts (`LocalizedNames`, `displaynames`, `labels`)."""
    found = element.find(path)
    return found[0].get("description") or "" if found is not None and len(found) else ""


def _xml(data: bytes, name: str) -> Element:
    try:
        root: Element = fromstring(data)
    except (ParseError, ValueError):
        raise Fault(400, SCHEMA, f"The import file is invalid: {name} is not readable XML.") from None
    return root


def _bad_zip() -> Fault:
    return Fault(
        400,
        BAD_ZIP,
        f"The solution file is invalid. The compressed file must contain at its root: {', '.join(_NEEDED)}.",
    )
