"""Customers whom a view or FetchXML finds: who is left alone, who is settled first."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from connector.dataverse import DataverseClient, Terminal, Unauthorized
from connector.dataverse.odata import guid
from connector.mass.order import BadOrder
from connector.rows.values import Row

_SETS = {"account": "accounts", "contact": "contacts", "loy_membership": "loy_memberships"}
_PAGE = 5000
_MOST = 2_000_000  # customers: some 200 MB
_ENTITY = re.compile(r"""<entity\b[^>]*?\bname\s*=\s*["']([a-z0-9_]+)["']""")
_PAGING = re.compile(r"""\s(?:top|count|page|paging-cookie|returntotalrecordcount)\s*=\s*(?:"[^"]*"|'[^']*')""")
_COOKIE = re.compile(r"""pagingcookie=["']([^"']*)["']""")
_ANNOTATIONS = "Microsoft.Dynamics.CRM.fetchxmlpagingcookie,Microsoft.Dynamics.CRM.morerecords"


@dataclass(frozen=True, slots=True)
class CustomerList:
    """Customer keys (`account:<id>`), or ids of memberships."""

    keys: frozenset[str] = frozenset()

    def has(self, customer: str, membership_id: str) -> bool:
        return customer in self.keys or membership_id in self.keys


NOBODY = CustomerList()


def read(client: DataverseClient, column: str, query: str) -> CustomerList:
    """Whom a view (by id) or FetchXML finds now. BadOrder, which names the column, when it cannot be read."""
    try:
        return _read(client, query.strip())
    except Unauthorized:
        raise
    except Terminal as error:
        raise BadOrder(f"{column}: Dataverse cannot read it: {error.message}") from None
    except ValueError as error:  # too long for an address, too
        raise BadOrder(f"{column}: {error}") from None


def _read(client: DataverseClient, query: str) -> CustomerList:
    if not query:
        return NOBODY
    fetch = query if "<" in query else _view(client, query)
    found = _ENTITY.search(fetch)
    if not found or found[1] not in _SETS:
        table = found[1] if found else "nothing"
        raise ValueError(f"it must look for accounts, contacts or memberships, not {table}")
    table = found[1]
    keys: set[str] = set()
    for row in _rows(client, _SETS[table], fetch):
        row_id = row.get(f"{table}id")
        if row_id is None:
            raise ValueError("it must give the id of each row, not groups or distinct values")
        keys.add(row_id if table == "loy_membership" else f"{table}:{row_id}")
        if len(keys) > _MOST:
            raise ValueError(f"it finds more than {_MOST} customers")
    return CustomerList(frozenset(keys))


def _view(client: DataverseClient, view: str) -> str:
    try:
        view_id = guid(view)
    except ValueError:
        raise ValueError("the id of a view or FetchXML is expected") from None
    for views in ("savedqueries", "userqueries"):
        row = client.get(f"{views}({view_id})?$select=fetchxml")
        if row:
            return str(row["fetchxml"])
    raise ValueError(f"there is no view {view_id}")


def _rows(client: DataverseClient, entity_set: str, fetch: str) -> Iterator[Row]:
    """All pages: FetchXML is read with cookies, as nothing else goes beyond 50,000 rows."""
    head, tag, rest = fetch.partition("<fetch")
    attributes, end, body = rest.partition(">")
    if not tag or not end or attributes.endswith("/"):
        raise ValueError("no <fetch> element")
    attributes = _PAGING.sub("", attributes)
    cookie, page = "", 1
    while True:
        paging = f' count="{_PAGE}" page="{page}"' + (f" paging-cookie={quoteattr(cookie)}" if cookie else "")
        path = f"{entity_set}?fetchXml={quote(f'{head}<fetch{attributes}{paging}>{body}', safe='')}"
        answer = client.request("GET", path, headers={"Prefer": f'odata.include-annotations="{_ANNOTATIONS}"'}).json()
        yield from answer["value"]
        if not answer.get("@Microsoft.Dynamics.CRM.morerecords"):
            return
        found = _COOKIE.search(answer.get("@Microsoft.Dynamics.CRM.fetchxmlpagingcookie", ""))
        cookie, page = unquote(unquote(found[1])) if found else "", page + 1
