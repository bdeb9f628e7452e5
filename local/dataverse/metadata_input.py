"""Definitions as clients send them -> the model. Refuses what Dataverse refuses, naming the property."""

import re
import uuid
from decimal import Decimal
from typing import Any

from local.dataverse.errors import Fault, bad_request
from local.dataverse.model import CHOICES, Column, Key, Option, OptionSet, Schema, Table

Json = dict[str, Any]
_TYPES = {
    "String", "Memo", "Integer", "BigInt", "Decimal", "Double", "Money", "Boolean", "DateTime", "Picklist",
    "MultiSelectPicklist", "Lookup", "File", "Image", "Status", "State", "UniqueIdentifier", "EntityName",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{1,7}_[A-Za-z0-9_]{1,90}")
MOST_KEYS, MOST_KEY_COLUMNS, MOST_KEY_BYTES = 10, 16, 900
_KEY_TYPES = {"Decimal", "Integer", "BigInt", "String", "DateTime", "Lookup", "Customer", "Picklist"}


def fail(message: str, code: str = "0x80040203") -> Fault:
    return Fault(400, code, message)


def text(body: Json, name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or (not value and default is None):
        raise fail(f"The property '{name}' is required and must be a string.")
    return value


def number(body: Json, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise fail(f"The property '{name}' must be a number.")
    return int(value) if isinstance(value, int) else float(value)


def labels(value: Any, name: str) -> tuple[str, dict[int, str]]:
    """(the label in English or the first language, the other languages)."""
    if value is None:
        return "", {}
    if not isinstance(value, dict) or not isinstance(value.get("LocalizedLabels"), list):
        raise fail(f"The property '{name}' must be a label with LocalizedLabels.")
    found: dict[int, str] = {}
    for item in value["LocalizedLabels"]:
        if not isinstance(item, dict) or not isinstance(item.get("Label"), str):
            raise fail(f"The property '{name}' holds an invalid label.")
        language = item.get("LanguageCode", 1033)
        if isinstance(language, bool) or not isinstance(language, int):
            raise fail(f"The property '{name}' holds an invalid LanguageCode.")
        found[language] = item["Label"]
    if not found:
        return "", {}
    first = found.pop(1033, None)
    if first is None:
        first = next(iter(found.values()))
    return first, found


def schema_name(body: Json, what: str) -> str:
    """A schema name with the publisher's prefix."""
    name = text(body, "SchemaName")
    if not _NAME.fullmatch(name):
        raise fail(f"The schema name '{name[:100]}' of the {what} must start with a publisher's prefix such as 'new_'.",
                   "0x80044363")  # fmt: skip
    return name


def required_level(body: Json) -> str:
    value = body.get("RequiredLevel")
    if value is None:
        return "None"
    level = value.get("Value") if isinstance(value, dict) else value
    if level not in ("None", "SystemRequired", "ApplicationRequired", "Recommended"):
        raise fail("The property 'RequiredLevel' has an unknown value.")
    return str(level)


def kind_of(body: Json) -> str:
    full = body.get("@odata.type")
    if isinstance(full, str):
        kind = (
            full.lstrip("#")
            .removeprefix("Microsoft.Dynamics.CRM.")
            .removeprefix("Complex")
            .removesuffix("AttributeMetadata")
        )
    else:
        kind = str(body.get("AttributeType", ""))
    if kind not in _TYPES:
        raise fail(f"'@odata.type' of the column names no known type: '{str(full)[:100]}'.", "0x80048d19")
    return "Uniqueidentifier" if kind == "UniqueIdentifier" else kind


def options(value: Any, name: str) -> list[Option]:
    if not isinstance(value, list):
        raise fail(f"The property '{name}' must be an array of options.")
    found: list[Option] = []
    for item in value:
        if not isinstance(item, dict):
            raise fail(f"The property '{name}' holds an invalid option.")
        chosen = item.get("Value")
        if chosen is None:
            chosen = max([99_999_999, *(option.value for option in found)]) + 1
        if isinstance(chosen, bool) or not isinstance(chosen, int) or not -(2**31) <= chosen < 2**31:
            raise fail(f"The property '{name}' holds an option with an invalid Value.")
        if any(option.value == chosen for option in found):
            raise fail(f"The option value {chosen} is used twice.", "0x8004431f")
        shown, others = labels(item.get("Label"), "Label")
        described, _ = labels(item.get("Description"), "Description")
        found.append(Option(chosen, shown, description=described, color=item.get("Color"), labels=others))
    return found


def column(schema: Schema, table: Table, body: Any, *, kind: str | None = None) -> Column:
    """A new column of a table."""
    if not isinstance(body, dict):
        raise bad_request("A column definition must be a JSON object.")
    kind = kind or kind_of(body)
    name = schema_name(body, "column")
    if name.lower() in table.columns:
        raise Fault(
            400, "0x80047013", f"An attribute with the specified name {name} already exists in entity {table.name}."
        )
    made = Column(
        name.lower(), kind, schema_name=name, id=str(uuid.uuid4()), custom=True, required=required_level(body),
        secured=bool(body.get("IsSecured", False)), auto_number=str(body.get("AutoNumberFormat") or ""),
    )  # fmt: skip
    fill(schema, made, body)
    return made


def fill(schema: Schema, made: Column, body: Json) -> None:
    """Sets what a definition says about a column of any type."""
    if "DisplayName" in body or not made.label:
        made.label, made.labels = labels(body.get("DisplayName"), "DisplayName")
    if "Description" in body:
        made.description, _ = labels(body.get("Description"), "Description")
    kind = made.type
    made.format = str(body.get("Format") or made.format)
    if kind in ("String", "Memo"):
        length, limit = number(body, "MaxLength"), 4000 if kind == "String" else 1_048_576
        if length is not None and not 1 <= length <= limit:
            raise fail(f"The property 'MaxLength' must be between 1 and {limit}.")
        made.length = int(length) if length is not None else made.length
    elif kind in ("Integer", "BigInt", "Decimal", "Double", "Money"):
        low, high = number(body, "MinValue"), number(body, "MaxValue")
        made.minimum, made.maximum = (
            low if low is not None else made.minimum,
            high if high is not None else made.maximum,
        )
        if made.minimum is not None and made.maximum is not None and made.minimum > made.maximum:
            raise fail("The property 'MinValue' is greater than 'MaxValue'.")
        precision = number(body, "Precision")
        if precision is not None:
            most = {"Decimal": 10, "Double": 5, "Money": 4}.get(kind, 0)
            if not 0 <= precision <= most:
                raise fail(f"The property 'Precision' must be between 0 and {most}.")
            made.precision = int(precision)
        elif kind in ("Decimal", "Double", "Money") and not made.label:
            made.precision = 2
    elif kind == "DateTime":
        behavior = body.get("DateTimeBehavior")
        if behavior is not None:
            value = behavior.get("Value") if isinstance(behavior, dict) else behavior
            if value not in ("UserLocal", "DateOnly", "TimeZoneIndependent"):
                raise fail("The property 'DateTimeBehavior' has an unknown value.")
            made.behavior = str(value)
        made.format = made.format or "DateAndTime"
        if made.format not in ("DateOnly", "DateAndTime"):
            raise fail("The property 'Format' must be DateOnly or DateAndTime.")
    elif kind in CHOICES or kind == "MultiSelectPicklist":
        _choice(schema, made, body)
    elif kind == "Boolean":
        _boolean(made, body)


def _choice(schema: Schema, made: Column, body: Json) -> None:
    bound = body.get("GlobalOptionSet@odata.bind")
    given = body.get("OptionSet")
    if isinstance(bound, str):
        found = re.search(r"GlobalOptionSetDefinitions\((?:Name='([^']+)'|([0-9a-fA-F-]{36}))\)", bound)
        choice = next(
            (
                c
                for c in schema.option_sets.values()
                if found and (c.name == found[1] or c.id == (found[2] or "").lower())
            ),
            None,
        )
        if choice is None:
            raise fail(f"The global choice '{bound[:120]}' does not exist.")
        made.option_set = choice.name
    elif isinstance(given, dict):
        if given.get("IsGlobal") and isinstance(given.get("Name"), str) and given["Name"] in schema.option_sets:
            made.option_set = given["Name"]
        elif "Options" in given:
            made.options = options(given["Options"], "OptionSet.Options")
    elif given is not None:
        raise fail("The property 'OptionSet' must be an object.")
    default = body.get("DefaultFormValue")
    if default is not None and default != -1:
        known = schema.option_sets[made.option_set].options if made.option_set else made.options
        if all(option.value != default for option in known):
            raise fail(f"The property 'DefaultFormValue' {default} is no option of the column.")
        made.default = default
    elif "DefaultFormValue" in body:
        made.default = None


def _boolean(made: Column, body: Json) -> None:
    if "DefaultValue" in body:
        made.default = bool(body["DefaultValue"])
    given = body.get("OptionSet")
    if isinstance(given, dict):
        both = []
        for name, value in (("TrueOption", 1), ("FalseOption", 0)):
            option = given.get(name)
            shown, others = labels(option.get("Label"), name) if isinstance(option, dict) else ("", {})
            both.append(Option(value, shown or ("Yes" if value else "No"), labels=others))
        made.options = both


def key(table: Table, body: Any) -> Key:
    """A new alternate key of a table."""
    if not isinstance(body, dict):
        raise bad_request("A key definition must be a JSON object.")
    name = schema_name(body, "key")
    columns = body.get("KeyAttributes")
    if not isinstance(columns, list) or not columns or not all(isinstance(column, str) for column in columns):
        raise fail("The property 'KeyAttributes' must be an array of column names.")
    if name.lower() in table.keys:
        raise fail(f"A key with the name {name} already exists in entity {table.name}.", "0x80060893")
    if len(table.keys) >= MOST_KEYS:
        raise fail(f"The entity {table.name} already has {MOST_KEYS} keys.", "0x80060894")
    if len(columns) > MOST_KEY_COLUMNS:
        raise fail(f"A key can have {MOST_KEY_COLUMNS} columns at most.", "0x80060895")
    size = 0
    for column_name in columns:
        found = table.columns.get(column_name)
        if found is None:
            raise fail(
                f"The column '{column_name[:100]}' of 'KeyAttributes' does not exist in {table.name}.", "0x80060890"
            )
        if found.type not in _KEY_TYPES or found.secured:
            raise fail(f"The column '{column_name}' of type {found.type} cannot be part of a key.", "0x80060896")
        size += found.length * 2 if found.type == "String" else 16
    if size > MOST_KEY_BYTES:
        raise fail(f"The columns of the key take {size} bytes; {MOST_KEY_BYTES} are the limit.", "0x80060897")
    if any(sorted(other.columns) == sorted(columns) for other in table.keys.values()):
        raise fail("A key with the same columns exists already.", "0x80060893")
    shown, _ = labels(body.get("DisplayName"), "DisplayName")
    return Key(name.lower(), list(columns), schema_name=name, id=str(uuid.uuid4()), label=shown or name)


def option_set(schema: Schema, body: Any) -> OptionSet:
    if not isinstance(body, dict):
        raise bad_request("A choice definition must be a JSON object.")
    name = text(body, "Name").lower()
    if name in schema.option_sets:
        raise fail(f"An option set with the name {name} already exists.", "0x80048403")
    shown, others = labels(body.get("DisplayName"), "DisplayName")
    described, _ = labels(body.get("Description"), "Description")
    return OptionSet(
        name, str(uuid.uuid4()), shown, described, others, options=options(body.get("Options", []), "Options")
    )
