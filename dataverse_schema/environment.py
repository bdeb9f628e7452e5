"""What an environment has already, read once before anything is planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .api import Json, WebApi, text


@dataclass(frozen=True)
class PresentTable:
    """A table as the environment describes it. Names are logical names."""

    definition: Json
    columns: dict[str, Json]
    options: dict[str, dict[int, str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    relationships: frozenset[str] = frozenset()


def read_table(api: WebApi, logical_name: str) -> PresentTable | None:
    """Everything we compare about a table; None if it does not exist."""
    path = f"EntityDefinitions(LogicalName={text(logical_name)})"
    definition = api.get(path)
    if definition is None:
        return None
    columns = api.rows(f"{path}/Attributes")
    choices = api.rows(
        f"{path}/Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
        "?$select=LogicalName&$expand=OptionSet($select=Options)"
    )
    relationships = api.rows(f"{path}/ManyToOneRelationships?$select=SchemaName")
    return PresentTable(
        definition=_plain(definition),
        columns={column["LogicalName"]: _plain(column) for column in columns},
        options={choice["LogicalName"]: _options(choice) for choice in choices},
        keys=key_states(api, logical_name),
        relationships=frozenset(row["SchemaName"] for row in relationships),
    )


def key_states(api: WebApi, logical_name: str) -> dict[str, str]:
    """Logical name of each alternate key -> Pending, InProgress, Active or Failed."""
    path = f"EntityDefinitions(LogicalName={text(logical_name)})/Keys"
    rows = api.rows(f"{path}?$select=LogicalName,SchemaName,KeyAttributes,EntityKeyIndexStatus")
    return {row["SchemaName"].lower(): row["EntityKeyIndexStatus"] for row in rows}


def provisioned_languages(api: WebApi) -> list[int]:
    """The languages (LCID) that are switched on in the environment."""
    answer = api.get("RetrieveProvisionedLanguages") or {}
    return [int(lcid) for lcid in answer.get("RetrieveProvisionedLanguages", [])]


def label_text(label: Any, language: int) -> str:
    """The text of a Label in `language`, or ''."""
    for localized in (label or {}).get("LocalizedLabels") or []:
        if localized.get("LanguageCode") == language:
            return str(localized.get("Label") or "")
    return ""


def _options(choice: Json) -> dict[int, str]:
    found = {}
    for option in (choice.get("OptionSet") or {}).get("Options") or []:
        labels = (option.get("Label") or {}).get("LocalizedLabels") or [{}]
        found[int(option["Value"])] = str(labels[0].get("Label") or "")
    return found


def _plain(definition: Json) -> Json:
    return {
        name: value for name, value in definition.items() if not name.startswith("@odata.") or name == "@odata.type"
    }
