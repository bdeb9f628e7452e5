"""`$metadata`: the CSDL document of all tables."""

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from local.dataverse.actions import ACTIONS, FUNCTIONS
from local.dataverse.model import Schema, Table
from local.dataverse.responses import Response
from local.dataverse.values import edm_type

if TYPE_CHECKING:
    from local.dataverse.environment import Environment

_NAMESPACE = "Microsoft.Dynamics.CRM"


def document(env: "Environment") -> Response:
    schema = env.schema
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>',
        f'<Schema Namespace="{_NAMESPACE}" Alias="mscrm" xmlns="http://docs.oasis-open.org/odata/ns/edm">',
        '<EntityType Name="crmbaseentity" Abstract="true" />',
    ]
    for table in schema.tables.values():
        lines += _entity(schema, table)
    for name in sorted(FUNCTIONS):
        lines.append(f'<ComplexType Name="{name}Response" OpenType="true" />')
        lines.append(
            f'<Function Name="{name}"><ReturnType Type="{_NAMESPACE}.{name}Response" Nullable="false" /></Function>'
        )
    lines += [f'<Action Name="{name}" />' for name in sorted(ACTIONS)]
    lines.append('<EntityContainer Name="System">')
    for table in schema.tables.values():
        lines.append(f'<EntitySet Name="{table.set_name}" EntityType="{_NAMESPACE}.{table.name}">')
        for name, (relation, side) in schema.navigation(table.name).items():
            target = _target(schema, table, relation.referenced, relation.referencing, side)
            lines.append(f'<NavigationPropertyBinding Path="{name}" Target="{target.set_name}" />')
        lines.append("</EntitySet>")
    lines += [f'<FunctionImport Name="{name}" Function="{_NAMESPACE}.{name}" />' for name in sorted(FUNCTIONS)]
    lines += [f'<ActionImport Name="{name}" Action="{_NAMESPACE}.{name}" />' for name in sorted(ACTIONS)]
    lines.append("</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>")
    headers = {"Content-Type": "application/xml", "OData-Version": "4.0"}
    return Response(200, "\n".join(lines).encode(), headers)


def _target(schema: Schema, table: Table, referenced: str, referencing: str, side: str) -> Table:
    if side == "one":
        return schema.tables[referenced]
    if side == "many":
        return schema.tables[referencing]
    return schema.tables[referencing if referenced == table.name else referenced]


def _entity(schema: Schema, table: Table) -> list[str]:
    lines = [
        f'<EntityType Name="{table.name}" BaseType="{_NAMESPACE}.crmbaseentity">',
        f'<Key><PropertyRef Name="{table.primary_id}" /></Key>',
    ]
    for column in table.columns.values():
        nullable = ' Nullable="false"' if column.name == table.primary_id else ""
        lines.append(f'<Property Name="{column.property_name}" Type="Edm.{edm_type(column)}"{nullable} />')
    for name, (relation, side) in schema.navigation(table.name).items():
        target = _target(schema, table, relation.referenced, relation.referencing, side)
        kind = f"{_NAMESPACE}.{target.name}"
        if side != "one":
            lines.append(f'<NavigationProperty Name="{name}" Type="Collection({kind})" />')
            continue
        attribute = table.columns[relation.attribute]
        lines.append(
            f'<NavigationProperty Name="{name}" Type="{kind}"><ReferentialConstraint '
            f'Property="{attribute.property_name}" ReferencedProperty="{target.primary_id}" /></NavigationProperty>'
        )
    lines.append("</EntityType>")
    for key in table.keys.values():
        lines.insert(
            -1, f'<Annotation Term="OData.Community.Keys.V1.AlternateKey" String={quoteattr(",".join(key.columns))} />'
        )
    return lines
