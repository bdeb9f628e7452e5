"""The solution zip: complete, consistent, the same bytes each time, and the same metadata as the step-by-step install."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from dataverse_schema.api import WebApi
from dataverse_schema.components import plan_components
from dataverse_schema.interface import Interface, load_interface
from dataverse_schema.model import Model, load
from dataverse_schema.package import solution_zip
from dataverse_schema.tables import plan_tables

from .fakes import EmptyEnvironment

ENGLISH = 1033


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


@pytest.fixture(scope="module")
def interface(model: Model) -> Interface:
    return load_interface(model)


@pytest.fixture(scope="module", params=[False, True], ids=["unmanaged", "managed"])
def archive(model: Model, interface: Interface, request: pytest.FixtureRequest) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(solution_zip(model, interface, managed=request.param)))


@pytest.fixture(scope="module")
def package(archive: zipfile.ZipFile) -> Element:
    return ElementTree.fromstring(archive.read("customizations.xml"))


@pytest.fixture(scope="module")
def manifest(archive: zipfile.ZipFile) -> Element:
    found = ElementTree.fromstring(archive.read("solution.xml")).find("SolutionManifest")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def installed(model: Model, interface: Interface) -> EmptyEnvironment:
    """What the installer sends to an environment that has nothing of ours."""
    known = frozenset(name for role in interface.roles for name in interface.privileges(model, role))
    environment = EmptyEnvironment(privileges=known)
    api = WebApi(environment)
    for action in plan_tables(api, model):
        action.run(api)
    for action in plan_components(api, model, interface):
        action.run(api)
    return environment


def test_the_same_source_gives_the_same_bytes(model: Model, interface: Interface) -> None:
    assert solution_zip(model, interface, managed=False) == solution_zip(model, interface, managed=False)


def test_every_member_has_a_content_type(archive: zipfile.ZipFile) -> None:
    types = ElementTree.fromstring(archive.read("[Content_Types].xml"))
    extensions = {entry.get("Extension") for entry in types if entry.tag.endswith("Default")}
    parts = {entry.get("PartName") for entry in types if entry.tag.endswith("Override")}
    for name in archive.namelist():
        extension = name.rpartition("/")[2].rpartition(".")[2]
        assert name == "[Content_Types].xml" or extension in extensions or f"/{name}" in parts, name


def test_every_file_of_a_web_resource_is_in_the_zip_as_it_is_in_the_source(
    archive: zipfile.ZipFile, package: Element, interface: Interface
) -> None:
    sources = {resource.name: resource.path.read_bytes() for resource in interface.web_resources}
    packed = {
        record.findtext("Name"): archive.read((record.findtext("FileName") or "").lstrip("/"))
        for record in package.iter("WebResource")
    }
    assert packed == sources


def test_root_components_are_what_the_package_defines(manifest: Element, package: Element) -> None:
    def roots(kind: int, attribute: str) -> set[str]:
        found = manifest.findall(f"RootComponents/RootComponent[@type='{kind}']")
        return {root.get(attribute, "").strip("{}") for root in found}

    assert roots(1, "schemaName") == {(table.findtext("Name") or "").lower() for table in package.iter("Entity")}
    assert roots(20, "id") == {role.get("id", "").strip("{}") for role in package.findall("Roles/Role")}
    assert roots(61, "schemaName") == {page.findtext("Name") for page in package.iter("WebResource")}
    assert roots(60, "id") == {(board.findtext("FormId") or "").strip("{}") for board in package.iter("Dashboard")}
    assert roots(62, "schemaName") == {each.findtext("SiteMapUniqueName") for each in package.iter("AppModuleSiteMap")}
    assert roots(80, "schemaName") == {each.findtext("UniqueName") for each in package.iter("AppModule")}


def test_standard_tables_are_never_taken_over(manifest: Element) -> None:
    for name in ("account", "contact", "invoicedetail"):
        root = manifest.find(f"RootComponents/RootComponent[@schemaName='{name}']")
        assert root is not None
        assert root.get("behavior") == "1"


def test_ids_occur_once(package: Element) -> None:
    ids = [element.get("id") for form in package.iter("systemform") for element in form.iter() if element.get("id")]
    guids = [each for each in ids if each and each.startswith("{")]
    assert len(guids) == len(set(guids))


def test_what_a_form_view_or_ribbon_names_exists(package: Element, interface: Interface) -> None:
    pages = {resource.name for resource in interface.web_resources}
    views = {view.findtext("savedqueryid") for view in package.iter("savedquery")}
    for table in package.iter("Entity"):
        columns = {
            column.findtext("LogicalName")
            for column in table.iter("attribute")
            if column.find("LogicalName") is not None
        }
        columns |= {"name", "fullname", "accountratingcode", "createdon"}
        for control in table.iter("control"):
            assert control.get("datafieldname") in columns | {None}
        for view in table.iter("savedquery"):
            fetched = {each.get("name") for each in view.findall("fetchxml/fetch/entity/attribute")}
            assert {cell.get("name") for cell in view.iter("cell")} <= fetched
        commands = {each.get("Id") for each in table.iter("CommandDefinition")}
        assert {button.get("Command") for button in table.iter("Button")} <= commands
        for element in table.iter():
            for value in element.attrib.values():
                if value.startswith("$webresource:"):
                    assert value.removeprefix("$webresource:") in pages
    for area in package.iter("SubArea"):
        if area.get("Url", "").startswith("$webresource:"):
            assert area.get("Url", "").removeprefix("$webresource:") in pages
    for parameters in package.iter("parameters"):
        assert parameters.findtext("Url") in pages or parameters.findtext("ViewId") in views


def test_nothing_secret_and_nothing_of_one_environment_is_in_it(archive: zipfile.ZipFile) -> None:
    text = b"\n".join(archive.read(name) for name in archive.namelist()).decode()
    assert not re.search(r"SharedAccessKey|AuthValue|SASKey|dynamics\.com|servicebus\.windows|@\w+\.(com|net)", text)


def test_pages_obey_the_strict_content_policy(interface: Interface) -> None:
    for resource in interface.web_resources:
        source = resource.path.read_text()
        if resource.path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)", source), f"{resource.name}: script inside the page"
            assert not re.search(r"\son\w+=", source), f"{resource.name}: handler inside the page"
            assert not re.search(r"\sstyle=", source), f"{resource.name}: style inside the page"
        if resource.path.suffix == ".js":
            assert source.startswith('"use strict"')
            for forbidden in (
                "eval(",
                "new Function",
                "innerHTML",
                "document.write",
                "alert(",
                "console.",
                "https://",
                "?.",
                "??",
            ):
                assert forbidden not in source, f"{resource.name}: {forbidden}"


def test_install_and_package_describe_the_same_tables(
    model: Model, package: Element, installed: EmptyEnvironment
) -> None:
    for table in model.own_tables:
        assert packaged_table(package, table.logical_name) == installed_table(installed, table.logical_name)


def test_install_and_package_add_the_same_columns(model: Model, package: Element, installed: EmptyEnvironment) -> None:
    for table in model.extended_tables:
        node = entity(package, table.logical_name)
        packed = dict(packaged_columns(node))
        packed.pop("accountratingcode", None)
        assert packed == dict(installed_columns(installed, table.logical_name))


def test_install_and_package_have_the_same_relationships(package: Element, installed: EmptyEnvironment) -> None:
    packed = {
        (
            node.get("Name"),
            (node.findtext("ReferencedEntityName") or "").lower(),
            (node.findtext("ReferencingEntityName") or "").lower(),
            (node.findtext("ReferencingAttributeName") or "").lower(),
            node.findtext("CascadeDelete"),
            node.findtext(
                "EntityRelationshipRoles/EntityRelationshipRole[RelationshipRoleType='1']/NavigationPropertyName"
            ),
        )
        for node in package.iter("EntityRelationship")
        if (node.get("Name") or "").startswith("loy_")
    }
    sent = {
        (
            end["SchemaName"],
            end["ReferencedEntity"],
            end["ReferencingEntity"],
            lookup["SchemaName"].lower(),
            end["CascadeConfiguration"]["Delete"],
            end["ReferencingEntityNavigationPropertyName"],
        )
        for end, lookup in relationships(installed)
    }
    assert packed == sent


def test_install_and_package_have_the_same_views_forms_and_charts(
    package: Element, installed: EmptyEnvironment
) -> None:
    views = {
        (
            guid(node.findtext("savedqueryid")),
            node.findtext("querytype"),
            plain(node.find("fetchxml/fetch")),
            plain(node.find("layoutxml/grid")),
        )
        for node in package.iter("savedquery")
    }
    assert views == {
        (row["savedqueryid"], str(row["querytype"]), plain_text(row["fetchxml"]), plain_text(row["layoutxml"]))
        for row in installed.posted("savedqueries")
    }
    forms = {
        (guid(node.findtext("formid")), plain(node.find("form")))
        for node in package.iter("systemform")
        if "solutionaction" not in ElementTree.tostring(node, encoding="unicode")
    }
    forms |= {
        (guid(node.findtext("FormId")), plain(node.find("FormXml/forms/form"))) for node in package.iter("Dashboard")
    }
    assert forms == {(row["formid"], plain_text(row["formxml"])) for row in installed.posted("systemforms")}
    charts = {
        (
            guid(node.findtext("savedqueryvisualizationid")),
            plain(node.find("datadescription/datadefinition")),
            plain(node.find("presentationdescription/Chart")),
        )
        for node in package.iter("visualization")
    }
    assert charts == {
        (
            row["savedqueryvisualizationid"],
            plain_text(row["datadescription"]),
            plain_text(row["presentationdescription"]),
        )
        for row in installed.posted("savedqueryvisualizations")
    }


def test_install_and_package_have_the_same_roles_pages_and_variables(
    archive: zipfile.ZipFile, package: Element, installed: EmptyEnvironment
) -> None:
    roles = {
        guid(node.get("id")): {(each.get("name"), each.get("level")) for each in node.iter("RolePrivilege")}
        for node in package.findall("Roles/Role")
    }
    granted = "Microsoft.Dynamics.CRM.AddPrivilegesRole"
    assert roles == {
        row["roleid"]: {
            (each["PrivilegeId"], each["Depth"])
            for each in installed.posted(f"roles({row['roleid']})/{granted}")[0]["Privileges"]
        }
        for row in installed.posted("roles")
    }
    pages = {
        (guid(node.findtext("WebResourceId")), node.findtext("Name"), node.findtext("WebResourceType"))
        for node in package.iter("WebResource")
    }
    assert pages == {
        (row["webresourceid"], row["name"], str(row["webresourcetype"])) for row in installed.posted("webresourceset")
    }
    definitions = [
        ElementTree.fromstring(archive.read(name))
        for name in archive.namelist()
        if name.startswith("environmentvariable")
    ]
    assert {(node.get("schemaname"), node.findtext("type"), node.findtext("defaultvalue")) for node in definitions} == {
        (row["schemaname"], str(row["type"]), row["defaultvalue"])
        for row in installed.posted("environmentvariabledefinitions")
    }


def test_the_modern_command_is_bound_to_its_table_and_script(installed: EmptyEnvironment, interface: Interface) -> None:
    library = next(resource for resource in interface.web_resources if resource.name == interface.command.library)
    commands = {row["contextvalue"]: row for row in installed.posted("appactions")}
    assert set(commands) == {"account", "contact"}
    for table, row in commands.items():
        assert row["uniquename"].startswith("loy_")
        assert row["ContextEntity@odata.bind"] == f"/entities(id of '{table}')"
        assert row["OnClickEventJavaScriptWebResourceId@odata.bind"] == f"/webresourceset({library.id})"


# How the two describe the same thing. Package words on the left, words of the Web API on the right.
TYPES = {
    "nvarchar": "String",
    "ntext": "Memo",
    "int": "Integer",
    "decimal": "Decimal",
    "bit": "Boolean",
    "datetime": "DateTime",
    "picklist": "Picklist",
}
SYSTEM_COLUMNS = {
    "createdby", "createdon", "createdonbehalfby", "importsequencenumber", "modifiedby", "modifiedon",
    "modifiedonbehalfby", "overriddencreatedon", "ownerid", "owningbusinessunit", "owningteam", "owninguser",
    "statecode", "statuscode", "timezoneruleversionnumber", "utcconversiontimezonecode",
}  # fmt: skip


def test_what_a_run_counts_stays_out_of_the_audit_history(package: Element) -> None:
    columns = dict(packaged_columns(entity(package, "loy_bulkrun")))
    kept = {name for name, column in columns.items() if column.get("audit")}
    assert {"loy_status", "loy_asof", "loy_exclude", "loy_notices"} <= kept
    assert not {"loy_cursor", "loy_done", "loy_figures", "loy_seenon"} & kept


def entity(package: Element, name: str) -> Element:
    return next(node for node in package.iter("entity") if (node.get("Name") or "").lower() == name)


def packaged_table(package: Element, name: str) -> dict[str, Any]:
    node = entity(package, name)
    return {
        "schema": node.get("Name"),
        "set": node.findtext("EntitySetName"),
        "ownership": {"UserOwned": "UserOwned", "OrgOwned": "OrganizationOwned"}[
            node.findtext("OwnershipTypeMask") or ""
        ],
        "audit": node.findtext("IsAuditEnabled") == "1",
        "tracking": node.findtext("ChangeTrackingEnabled") == "1",
        "texts": [
            description(node.find(place)) for place in ("LocalizedNames", "LocalizedCollectionNames", "Descriptions")
        ],
        "keys": {
            (
                key.findtext("Name"),
                description(key.find("displaynames")),
                tuple(each.text for each in key.iter("AttributeName")),
            )
            for key in node.iter("EntityKey")
        },
        "columns": dict(packaged_columns(node)),
    }


def installed_table(installed: EmptyEnvironment, name: str) -> dict[str, Any]:
    body = next(row for row in installed.posted("EntityDefinitions") if row["SchemaName"].lower() == name)
    columns = dict(installed_columns(installed, name))
    columns |= {column["SchemaName"].lower(): installed_column(column) for column in body["Attributes"]}
    return {
        "schema": body["SchemaName"],
        "set": body["EntitySetName"],
        "ownership": body["OwnershipType"],
        "audit": body["IsAuditEnabled"]["Value"],
        "tracking": body["ChangeTrackingEnabled"],
        "texts": [words(body[part]) for part in ("DisplayName", "DisplayCollectionName", "Description")],
        "keys": {
            (key["SchemaName"], words(key["DisplayName"]), tuple(key["KeyAttributes"]))
            for key in installed.posted(f"EntityDefinitions(LogicalName='{name}')/Keys")
        },
        "columns": columns,
    }


def packaged_columns(node: Element) -> Iterator[tuple[str, dict[str, Any]]]:
    for column in node.iter("attribute"):
        name, kind = column.findtext("LogicalName") or "", column.findtext("Type") or ""
        if name in SYSTEM_COLUMNS or kind == "primarykey":
            continue
        found: dict[str, Any] = {
            "schema": column.get("PhysicalName"),
            "required": column.findtext("RequiredLevel") == "required",
            "texts": [description(column.find(part)) for part in ("displaynames", "Descriptions")],
        }
        if kind not in ("lookup", "customer"):
            numbers = {
                part: column.findtext(part)
                for part in ("MaxLength", "MinValue", "MaxValue", "Accuracy", "AppDefaultValue")
            }
            found["numbers"] = {part: value for part, value in numbers.items() if value is not None}
            found["type"] = TYPES[kind]
            found["audit"] = column.findtext("IsAuditEnabled") == "1"
            found["behavior"] = {None: None, "1": "UserLocal", "2": "DateOnly"}[column.findtext("Behavior")]
            found["options"] = {(each.get("value"), description(each.find("labels"))) for each in column.iter("option")}
        yield name, found


def installed_columns(installed: EmptyEnvironment, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for body in installed.posted(f"EntityDefinitions(LogicalName='{name}')/Attributes"):
        yield body["SchemaName"].lower(), installed_column(body)
    for end, lookup in relationships(installed):
        if end["ReferencingEntity"] == name:
            yield lookup["SchemaName"].lower(), common(lookup)


def installed_column(body: dict[str, Any]) -> dict[str, Any]:
    choice = body.get("OptionSet", {})
    default = body.get("DefaultFormValue", body.get("DefaultValue"))
    options = choice.get(
        "Options", [choice.get("TrueOption"), choice.get("FalseOption")] if "TrueOption" in choice else []
    )
    numbers = {
        "MaxLength": body.get("MaxLength"),
        "MinValue": body.get("MinValue"),
        "MaxValue": body.get("MaxValue"),
        "Accuracy": body.get("Precision"),
        "AppDefaultValue": None if default is None else int(default),
    }
    return common(body) | {
        "numbers": {part: str(value) for part, value in numbers.items() if value is not None},
        "type": body["AttributeType"],
        "audit": body["IsAuditEnabled"]["Value"],
        "behavior": body.get("DateTimeBehavior", {}).get("Value"),
        "options": {(str(each["Value"]), words(each["Label"])) for each in options},
    }


def common(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": body["SchemaName"],
        "required": body["RequiredLevel"]["Value"] == "ApplicationRequired",
        "texts": [words(body["DisplayName"]), words(body["Description"])],
    }


def relationships(installed: EmptyEnvironment) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for body in installed.posted("RelationshipDefinitions"):
        yield body, body["Lookup"]
    for body in installed.posted("CreateCustomerRelationships"):
        for end in body["OneToManyRelationships"]:
            yield end, body["Lookup"]


def description(node: Element | None) -> str:
    assert node is not None
    return node[0].get("description") or ""


def words(label: dict[str, Any]) -> str:
    return next(each["Label"] for each in label["LocalizedLabels"] if each["LanguageCode"] == ENGLISH)


def guid(value: str | None) -> str:
    return (value or "").strip("{}")


def plain(node: Element | None) -> str:
    assert node is not None
    return plain_text(ElementTree.tostring(node, encoding="unicode"))


def plain_text(text: str) -> str:
    return ElementTree.canonicalize(text, strip_text=True)
