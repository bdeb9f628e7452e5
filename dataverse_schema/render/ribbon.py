"""The command on the forms as classic ribbon. Modern commands (`appaction`) cannot be shown by privilege; this one is."""

from __future__ import annotations

from ..interface import Command
from ..model import Languages
from .xml import Element, el, texts

_SEQUENCE = "67"


def ribbon(command: Command, table: str, languages: Languages) -> Element:
    """`RibbonDiffXml` for the form of one table."""
    name = f"loy.{table}.{command.name}"
    label, tip = f"$LocLabels:{name}.Label", f"$LocLabels:{name}.Tip"
    button = el(
        "Button",
        {
            "Id": f"{name}.Button",
            "Command": f"{name}.Command",
            "Sequence": _SEQUENCE,
            "TemplateAlias": "o1",
            "LabelText": label,
            "Alt": label,
            "ToolTipTitle": label,
            "ToolTipDescription": tip,
            "ModernImage": f"$webresource:{command.icon}",
        },
    )
    # A button belongs among the controls of a group; in the group itself it would be imported and never shown.
    place = f"Mscrm.Form.{table}.MainTab.Save.Controls._children"
    action = el(
        "CustomAction",
        {"Id": f"{name}.Action", "Location": place, "Sequence": _SEQUENCE},
        el("CommandUIDefinition", None, button),
    )
    call = el(
        "JavaScriptFunction",
        {"FunctionName": command.function, "Library": f"$webresource:{command.library}"},
        el("CrmParameter", {"Value": "PrimaryControl"}),
    )
    definition = el(
        "CommandDefinition",
        {"Id": f"{name}.Command"},
        el("EnableRules", None, el("EnableRule", {"Id": f"{name}.Saved"})),
        el("DisplayRules", None, el("DisplayRule", {"Id": f"{name}.MayCreate"})),
        el("Actions", None, call),
    )
    may_create = {"EntityName": command.privilege_table, "PrivilegeType": "Create", "PrivilegeDepth": "Basic"}
    display_rule = el("DisplayRule", {"Id": f"{name}.MayCreate"}, el("EntityPrivilegeRule", may_create))
    enable_rule = el("EnableRule", {"Id": f"{name}.Saved"}, el("FormStateRule", {"State": "Existing"}))
    return el(
        "RibbonDiffXml",
        None,
        el("CustomActions", None, action),
        el("Templates", None, el("RibbonTemplates", {"Id": "Mscrm.Templates"})),
        el("CommandDefinitions", None, definition),
        el(
            "RuleDefinitions",
            None,
            el("TabDisplayRules"),
            el("DisplayRules", None, display_rule),
            el("EnableRules", None, enable_rule),
        ),
        el(
            "LocLabels",
            None,
            _text(f"{name}.Label", command.label, languages),
            _text(f"{name}.Tip", command.tooltip, languages),
        ),
    )


def _text(label_id: str, text: str, languages: Languages) -> Element:
    return el("LocLabel", {"Id": label_id}, texts("Titles", "Title", text, languages))
