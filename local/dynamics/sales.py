"""What Dynamics 365 Sales brings and the bare environment has not: main forms, views and the role Salesperson.

They are made once, before our solution is installed: its installer adds a tab to the forms that it finds.
"""

from collections.abc import Mapping
from uuid import UUID, uuid5

from dataverse_schema.api import Json, WebApi, text

SALESPERSON = "Salesperson"
_IDS = UUID("3a0c6f1d-8a55-4e0a-9d8f-5b3f6a0f7c11")
_ROLE = str(uuid5(_IDS, "role salesperson"))
_GLOBAL, _BASIC = "Global", "Basic"
_TEXT, _MONEY, _DATE = (
    "{4273EDBD-AC1D-40D3-9FB2-095C621B552D}",
    "{533B9E00-756B-4312-95A0-DC888637AC78}",
    "{5B773807-9FB2-42DB-97C3-7A91EFF8ADFF}",
)
_LOOKUP, _CHOICE = "{270BD3DB-D9AF-4782-9025-509E298DEC0A}", "{3EF39988-22BB-4F0B-BBBE-64B5A3748AEE}"
# Dynamics has the same ids for these two forms in every environment.
_FORMS: Mapping[str, tuple[str, list[tuple[str, str, str]]]] = {
    "account": (
        "8448b78f-8f42-454e-8e2a-f8196b0419af",
        [
            ("name", "Account Name", _TEXT),
            ("accountratingcode", "Account Rating", _CHOICE),
            ("accountnumber", "Account Number", _TEXT),
            ("telephone1", "Main Phone", _TEXT),
            ("address1_city", "City", _TEXT),
            ("createdon", "Created On", _DATE),
        ],
    ),
    "contact": (
        "1fed44d1-ae68-4a41-bd2b-f13acac4acfa",
        [
            ("fullname", "Full Name", _TEXT),
            ("emailaddress1", "E-mail", _TEXT),
            ("telephone1", "Business Phone", _TEXT),
            ("address1_city", "City", _TEXT),
            ("createdon", "Created On", _DATE),
        ],
    ),
    "invoice": (
        str(uuid5(_IDS, "form invoice")),
        [
            ("name", "Name", _TEXT),
            ("customerid", "Customer", _LOOKUP),
            ("statuscode", "Status Reason", _CHOICE),
            ("totalamount", "Total Amount", _MONEY),
            ("totaltax", "Total Tax", _MONEY),
            ("createdon", "Created On", _DATE),
        ],
    ),
}
_VIEWS: Mapping[str, tuple[str, str, list[tuple[str, int]]]] = {
    "account": ("Active Accounts", "name", [("name", 260), ("accountratingcode", 130), ("telephone1", 150)]),
    "contact": ("Active Contacts", "fullname", [("fullname", 260), ("emailaddress1", 220), ("telephone1", 150)]),
    "invoice": (
        "All Invoices",
        "name",
        [("name", 260), ("customerid", 220), ("totalamount", 130), ("statuscode", 130)],
    ),
}


def install(api: WebApi, columns: Mapping[str, set[str]]) -> None:
    """Makes what is missing. `columns` are the logical names that each table has here: fewer than in Dynamics."""
    for table, (form_id, fields) in _FORMS.items():
        if api.get(f"systemforms({form_id})?$select=name") is None:
            known = [field for field in fields if field[0] in columns[table]]
            api.create("systemforms", _form(table, form_id, known))
    for table, (name, order, shown) in _VIEWS.items():
        view_id = str(uuid5(_IDS, f"view {table}"))
        if api.get(f"savedqueries({view_id})?$select=name") is None:
            known_columns = [column for column in shown if column[0] in columns[table]]
            api.create("savedqueries", _view(table, view_id, name, order, known_columns))
    if api.get(f"roles({_ROLE})?$select=name") is None:
        _salesperson(api)


def _form(table: str, form_id: str, fields: list[tuple[str, str, str]]) -> Json:
    cells = "".join(
        f'<row><cell id="{{{uuid5(_IDS, f"{table} {name}")}}}"><labels><label description="{label}" languagecode="1033"/>'
        f'</labels><control id="{name}" classid="{kind}" datafieldname="{name}"/></cell></row>'
        for name, label, kind in fields
    )
    formxml = (
        f'<form><tabs><tab name="SUMMARY_TAB" id="{{{uuid5(_IDS, f"{table} tab")}}}" verticallayout="true">'
        '<labels><label description="Summary" languagecode="1033"/></labels><columns><column width="100%"><sections>'
        f'<section name="info" id="{{{uuid5(_IDS, f"{table} section")}}}" columns="11">'
        f'<labels><label description="{table.title()} information" languagecode="1033"/></labels><rows>{cells}</rows>'
        "</section></sections></column></columns></tab></tabs></form>"
    )
    return {
        "formid": form_id,
        "name": table.title(),
        "objecttypecode": table,
        "type": 2,
        "formactivationstate": 1,
        "formxml": formxml,
    }


def _view(table: str, view_id: str, name: str, order: str, columns: list[tuple[str, int]]) -> Json:
    attributes = "".join(f'<attribute name="{column}"/>' for column, _ in columns)
    fetch = (
        f'<fetch version="1.0" mapping="logical"><entity name="{table}"><attribute name="{table}id"/>{attributes}'
        f'<order attribute="{order}" descending="false"/></entity></fetch>'
    )
    cells = "".join(f'<cell name="{column}" width="{width}"/>' for column, width in columns)
    layout = f'<grid name="resultset" jump="{order}" select="1"><row name="result" id="{table}id">{cells}</row></grid>'
    return {
        "savedqueryid": view_id,
        "name": name,
        "returnedtypecode": table,
        "querytype": 0,
        "isdefault": True,
        "fetchxml": fetch,
        "layoutxml": layout,
    }


def _salesperson(api: WebApi) -> None:
    """Less than the real role has: what selling needs of the three tables."""
    (unit,) = api.rows("businessunits?$select=businessunitid&$filter=_parentbusinessunitid_value eq null")
    role = {
        "roleid": _ROLE,
        "name": SALESPERSON,
        "businessunitid@odata.bind": f"/businessunits({unit['businessunitid']})",
    }
    api.create("roles", role)
    wanted = {f"prvRead{table}": _GLOBAL for table in ("Account", "Contact", "Invoice")}
    for table in ("Account", "Contact", "Invoice"):
        wanted |= {f"prv{verb}{table}": _BASIC for verb in ("Create", "Write", "Append", "AppendTo")}
    privileges = []
    for name, depth in wanted.items():
        (row,) = api.rows(f"privileges?$select=privilegeid&$filter=name eq {text(name)}")
        privileges.append({"PrivilegeId": row["privilegeid"], "Depth": depth})
    api.call(f"roles({_ROLE})/Microsoft.Dynamics.CRM.AddPrivilegesRole", {"Privileges": privileges})
