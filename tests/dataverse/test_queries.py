"""Queries: filters, order, expand, paging, counts, aggregation, FetchXML, views, SQL."""

from decimal import Decimal
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import pytest

from tests.dataverse.conftest import Dataverse, column

ACCOUNT = "11111111-0000-4000-8000-000000000001"
NOTES = 'odata.include-annotations="*"'


@pytest.fixture
def filled(dataverse: Dataverse) -> Dataverse:
    """Seven accounts, each with contacts: account n has n contacts."""
    for number in range(7):
        account = dataverse.ok(
            "POST",
            "accounts",
            {
                "name": f"Account {number}",
                "revenue": number * 100,
                "numberofemployees": number % 3,
                "telephone1": None if number % 2 else f"555-{number}",
            },
        )
        for person in range(number):
            dataverse.ok(
                "POST",
                "contacts",
                {
                    "lastname": f"P{person}",
                    "firstname": "P",
                    "parentcustomerid_account@odata.bind": f"accounts({account})",
                },
            )
    return dataverse


def names(dataverse: Dataverse, query: str) -> list[str]:
    return [row["name"][-1] for row in dataverse.ok("GET", f"accounts?$select=name&{query}")["value"]]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("revenue gt 300 and revenue le 500", "45"),
        ("not (revenue lt 500)", "56"),
        ("name eq 'ACCOUNT 3'", "3"),
        ("contains(name,'nt 2') or endswith(name,'6')", "26"),
        ("startswith(name,'Account') and revenue eq 0", "0"),
        ("name in ('ACCOUNT 1','account 4','nobody')", "14"),
        ("not (revenue in (0,100,200,300)) and statecode in (0)", "456"),
        ("startswith(name,'_ccount [12]')", "12"),
        ("telephone1 eq null", "135"),
        ("telephone1 ne '555-2'", "013456"),
        ("300 lt revenue and (numberofemployees eq 0 or numberofemployees eq 1)", "46"),
        ("contact_customer_accounts/any(c:c/lastname eq 'P5')", "6"),
        ("contact_customer_accounts/all(c:c/lastname eq 'P0')", "01"),
        ("not contact_customer_accounts/any()", "0"),
        ("statecode eq 0 and createdon ge 2026-03-01T00:00:00Z and createdon lt 2026-03-02T00:00:00Z", "0123456"),
        ("owninguser/fullname eq 'admin'", "0123456"),
        ("name in ('Account 1','Account 4')", "14"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='numberofemployees',PropertyValues=[\"2\"])", "25"),
        ("Microsoft.Dynamics.CRM.Today(PropertyName='createdon')", "0123456"),
        ("Microsoft.Dynamics.CRM.LastXDays(PropertyName='createdon',PropertyValue=2)", "0123456"),
        ("Microsoft.Dynamics.CRM.OlderThanXDays(PropertyName='createdon',PropertyValue=1)", ""),
        ('Microsoft.Dynamics.CRM.Between(PropertyName=\'revenue\',PropertyValues=["200","400"])', "234"),
        ("Microsoft.Dynamics.CRM.EqualUserId(PropertyName='ownerid')", "0123456"),
    ],
)
def test_filters(filled: Dataverse, condition: str, expected: str) -> None:
    assert "".join(names(filled, f"$orderby=name&$filter={quote(condition)}")) == expected


@pytest.mark.parametrize(
    "query",
    [
        "$filter=nosuch eq 1",
        "$filter=name eq",
        "$filter=name gt 5 and",
        "$filter=revenue eq 'x y'",
        "$filter=((name eq 'a')",
        "$filter=foo(name)",
        "$filter=contains(revenue,'1')",
        "$filter=name/any(a:a eq 1)",
        "$orderby=nosuch",
        "$top=-1",
        "$top=x",
        "$skip=1",
        "$search=a",
        "$format=json",
        "$select=name,nosuch",
        "$expand=nosuch",
        "$count=maybe",
        "$filter=not Microsoft.Dynamics.CRM.Today(PropertyName='createdon')",
        "$apply=nonsense",
        "$apply=filter(revenue gt 1)",
        "fetchXml=<fetch aggregate='true'><entity name='account'/></fetch>",
        "$apply=groupby((numberofemployees),aggregate($count as n))&$orderby=n desc",
        "$filter=name in ()",
        "$top=\u00b2",
        "$filter=name eq 'a&$select=name",
        "$filter=Microsoft.Dynamics.CRM.LastXDays(PropertyName='name',PropertyValue=2)",
        "$skiptoken=rubbish",
        "$expand=primarycontactid($top=1)",
        "$expand=contact_customer_accounts/$ref",
        "$select=name&$select=name",
        "fetchXml=<fetch",
        "sql=SELECT",
        "$filter=" + "(" * 100 + "name eq 'a'" + ")" * 100,
    ],
)
def test_wrong_queries_are_refused(filled: Dataverse, query: str) -> None:
    answer = filled.send("GET", f"accounts?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_order_and_top(filled: Dataverse) -> None:
    assert "".join(names(filled, "$orderby=numberofemployees desc,name&$top=3")) == "251"
    assert "@odata.nextLink" not in filled.ok("GET", "accounts?$top=3")


@pytest.mark.parametrize(
    "order",
    [
        "",
        "&$orderby=name desc",
        "&$orderby=telephone1,name",
        "&$orderby=telephone1 desc",
        "&$orderby=numberofemployees,revenue desc",
    ],
)
def test_pages_hold_every_row_once(filled: Dataverse, order: str) -> None:
    whole = [row["accountid"] for row in filled.ok("GET", f"accounts?$select=name{order}")["value"]]
    url, pages, seen = f"accounts?$select=name{order}", 0, []
    cookies = set()
    while url:
        answer = filled.send("GET", url, Prefer="odata.maxpagesize=2")
        assert answer.headers["Preference-Applied"] == "odata.maxpagesize=2"
        seen += [row["accountid"] for row in answer.json()["value"]]
        url = answer.json().get("@odata.nextLink", "")
        assert url not in cookies
        cookies.add(url)
        pages += 1
    assert (seen, pages) == (whole, 4)


def test_pages_stay_right_while_rows_come_and_go(filled: Dataverse) -> None:
    first = filled.ok("GET", "accounts?$select=name&$orderby=name", Prefer="odata.maxpagesize=3")
    filled.ok("DELETE", f"accounts({first['value'][0]['accountid']})")
    filled.ok("POST", "accounts", {"name": "Account -1"})
    rest = filled.ok("GET", first["@odata.nextLink"], Prefer="odata.maxpagesize=5")
    assert [row["name"][-1] for row in rest["value"]] == ["3", "4", "5", "6"]


def test_the_page_size_may_change_from_page_to_page(filled: Dataverse) -> None:
    whole = [row["accountid"] for row in filled.ok("GET", "accounts?$select=name")["value"]]
    url, sizes, seen = "accounts?$select=name", [], []
    for prefer in ("odata.maxpagesize=3", "odata.maxpagesize=1", ""):
        page = filled.ok("GET", url, **({"Prefer": prefer} if prefer else {}))
        sizes.append(len(page["value"]))
        seen += [row["accountid"] for row in page["value"]]
        url = page.get("@odata.nextLink", "")
    assert (sizes, seen, url) == ([3, 1, 3], whole, "")


def test_counts(filled: Dataverse) -> None:
    answer = filled.ok("GET", "accounts?$count=true&$top=1&$filter=revenue gt 100", Prefer=NOTES)
    assert (answer["@odata.count"], answer["@Microsoft.Dynamics.CRM.totalrecordcount"]) == (5, 5)
    assert filled.send("GET", "contacts/$count").content.decode("utf-8-sig") == "21"
    total = filled.ok("GET", "RetrieveTotalRecordCount(EntityNames=@p)?@p=['contact']")
    assert total["EntityRecordCountCollection"]["Values"] == [21]


def test_expand(filled: Dataverse) -> None:
    query = (
        "accounts?$select=name&$filter=revenue eq 300&"
        "$expand=contact_customer_accounts($select=lastname;$filter=lastname ne 'P1';"
        "$orderby=lastname desc;$top=1),createdby($select=fullname),primarycontactid($select=fullname)"
    )
    row = filled.ok("GET", query)["value"][0]
    assert [person["lastname"] for person in row["contact_customer_accounts"]] == ["P2"]
    assert (row["createdby"]["fullname"], row["primarycontactid"]) == ("admin", None)
    assert set(row["createdby"]) == {"fullname", "systemuserid"}
    assert "@odata.etag" in row["contact_customer_accounts"][0]
    alone = filled.ok("GET", f"accounts({row['accountid']})?$select=name&$expand=createdby($select=fullname)")
    assert set(alone["createdby"]) == {"@odata.etag", "fullname", "systemuserid"}
    nested = "contacts?$select=lastname&$top=1&$expand=parentcustomerid_account($select=name;$expand=createdby($select=fullname))"
    assert filled.ok("GET", nested)["value"][0]["parentcustomerid_account"]["createdby"]["fullname"] == "admin"
    reference = filled.ok("GET", "accounts?$select=name&$top=1&$expand=createdby/$ref")["value"][0]["createdby"]
    assert reference["@odata.id"].endswith(f"systemusers({filled.admin})")


def test_aggregation(filled: Dataverse) -> None:
    query = "accounts?$apply=filter(revenue gt 0)/groupby((numberofemployees),aggregate(revenue with sum as total,$count as n))"
    rows = filled.ok("GET", query)["value"]
    assert {row["numberofemployees"]: (row["total"], row["n"]) for row in rows} == {
        0: (900, 2),
        1: (500, 2),
        2: (700, 2),
    }
    whole = filled.ok("GET", "accounts?$apply=aggregate(revenue with average as a,revenue with max as m)")["value"]
    assert whole == [{"a": Decimal(300), "m": Decimal(600)}]


def fetch(dataverse: Dataverse, xml: str, entity_set: str = "accounts") -> dict[str, object]:
    found: dict[str, object] = dataverse.ok("GET", f"{entity_set}?fetchXml={quote(xml)}", Prefer=NOTES)
    return found


def test_fetchxml_links_and_omits_what_is_empty(filled: Dataverse) -> None:
    rows = fetch(
        filled,
        """
        <fetch><entity name="contact"><attribute name="lastname"/><order attribute="lastname"/>
          <link-entity name="account" from="accountid" to="parentcustomerid" alias="a" link-type="inner">
            <attribute name="name"/><attribute name="telephone1" alias="phone"/>
            <filter type="or"><condition attribute="revenue" operator="eq" value="200"/>
              <condition attribute="name" operator="like" value="%1"/></filter>
          </link-entity></entity></fetch>""",
        "contacts",
    )["value"]
    assert isinstance(rows, list)
    assert [(row["lastname"], row["a.name"], row.get("phone")) for row in rows if row["a.name"] == "Account 2"] == [
        ("P0", "Account 2", "555-2"),
        ("P1", "Account 2", "555-2"),
    ]
    assert len(rows) == 3
    assert "phone" not in next(row for row in rows if row["a.name"] == "Account 1")
    assert rows[0]["a.name@OData.Community.Display.V1.AttributeName"] == "name"


def test_fetchxml_pages_by_cookie(filled: Dataverse) -> None:
    seen: list[str] = []
    cookie, page = "", 1
    while True:
        inside = '<entity name="account"><attribute name="name"/><order attribute="name"/></entity>'
        xml = f'<fetch count="3" page="{page}"{cookie}>{inside}</fetch>'
        answer = fetch(filled, xml)
        seen += [row["name"] for row in answer["value"]]  # type: ignore[attr-defined]
        if not answer["@Microsoft.Dynamics.CRM.morerecords"]:
            break
        outer = ElementTree.fromstring(str(answer["@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"]))
        cookie = f" paging-cookie={quoteattr(unquote(unquote(outer.get('pagingcookie', ''))))}"
        page = int(outer.get("pagenumber", "0"))
    assert seen == [f"Account {number}" for number in range(7)]


def test_fetchxml_aggregates(filled: Dataverse) -> None:
    xml = """<fetch aggregate="true"><entity name="account">
        <attribute name="createdon" groupby="true" dategrouping="year" alias="y"/>
        <attribute name="revenue" aggregate="sum" alias="s"/><attribute name="revenue" aggregate="avg" alias="a"/>
        <attribute name="telephone1" aggregate="countcolumn" alias="t"/><attribute name="name" aggregate="count" alias="n"/>
        </entity></fetch>"""
    assert fetch(filled, xml)["value"] == [{"y": 2026, "s": 2100, "a": 300, "t": 4, "n": 7}]
    answer = filled.send(
        "GET", "accounts?fetchXml=" + quote(xml.replace('aggregate="true"', 'aggregate="true" aggregatelimit="5"', 1))
    )
    assert answer.json()["error"]["code"] == "0x8004e023"


@pytest.mark.parametrize(
    ("xml", "code"),
    [
        ('<!DOCTYPE f [<!ENTITY a "aaaa">]><fetch><entity name="account"/></fetch>', "0x80041114"),
        ('<fetch><entity name="account"><attribute name="x"/></entity></fetch>', "0x80041103"),
        ('<fetch><entity name="nosuch"/></fetch>', "0x80041102"),
        ('<fetch><entity name="contact"/></fetch>', "0x80040203"),
        ("<nonsense/>", "0x80041114"),
        (
            '<fetch><entity name="account"><filter><condition attribute="name" operator="zz" value="1"/></filter>'
            "</entity></fetch>",
            "0x80060888",
        ),
    ],
)
def test_hostile_and_wrong_fetchxml(dataverse: Dataverse, xml: str, code: str) -> None:
    dataverse.fails(400, code, "GET", f"accounts?fetchXml={quote(xml)}")


def test_saved_views(filled: Dataverse) -> None:
    view = filled.ok(
        "POST",
        "savedqueries",
        {
            "name": "Big",
            "returnedtypecode": "account",
            "querytype": 0,
            "fetchxml": '<fetch><entity name="account"><attribute name="name"/><filter>'
            '<condition attribute="revenue" operator="ge" value="600"/></filter></entity></fetch>',
        },
    )
    assert [row["name"] for row in filled.ok("GET", f"accounts?savedQuery={view}")["value"]] == ["Account 6"]
    filled.fails(400, "0x80040203", "GET", f"contacts?savedQuery={view}")


def sql(dataverse: Dataverse, text: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = dataverse.ok("GET", f"accounts?sql={quote(text)}")["value"]
    return rows


def test_sql(filled: Dataverse) -> None:
    rows = sql(
        filled,
        "SELECT TOP 2 a.name, c.lastname AS person FROM account a JOIN contact c ON c.parentcustomerid = a.accountid "
        "WHERE a.revenue >= 500 AND c.lastname IN ('P4', 'P5') ORDER BY a.name DESC, c.lastname DESC",
    )
    assert [(row["name"], row["person"]) for row in rows] == [("Account 6", "P5"), ("Account 6", "P4")]
    rows = sql(
        filled,
        "SELECT numberofemployees, COUNT(*) AS n, SUM(revenue) AS total FROM account WHERE name LIKE 'Acc%' "
        "GROUP BY numberofemployees ORDER BY n DESC",
    )
    assert rows[0] == {"numberofemployees": 0, "n": 3, "total": 900}
    assert len(sql(filled, "SELECT DISTINCT numberofemployees FROM account")) == 3


def test_sql_is_paged(filled: Dataverse) -> None:
    text = "SELECT a.name, c.lastname FROM account a JOIN contact c ON c.parentcustomerid = a.accountid ORDER BY a.name"
    whole = [(row["name"], row["lastname"]) for row in filled.ok("GET", f"accounts?sql={quote(text)}")["value"]]
    assert len(whole) == 21
    url, seen, links = f"accounts?sql={quote(text)}", [], []
    while url:
        page = filled.ok("GET", url, Prefer="odata.maxpagesize=8")
        seen += [(row["name"], row["lastname"]) for row in page["value"]]
        url = page.get("@odata.nextLink", "")
        links.append(url)
    assert seen == whole
    assert (len(links), len(set(links))) == (3, 3)
    filled.fails(400, "0x80040203", "GET", f"accounts?sql={quote(text)}&$skiptoken=rubbish")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM account",
        "DELETE FROM account",
        "SELECT name FROM account WHERE 1=1",
        "SELECT name FROM nosuch",
        "SELECT name FROM account WHERE accountid IN (SELECT accountid FROM account)",
        "SELECT name FROM contact",
        "SELECT",
        "SELECT name FROM account; SELECT name FROM account",
        "SELECT upper(name) FROM account",
        "SELECT name FROM account HAVING COUNT(*) > 1",
        "SELECT name FROM account UNION SELECT name FROM account",
        "SELECT name FROM account a CROSS JOIN contact c",
        "SELECT TOP 9999 name FROM account",
        "SELECT nosuch FROM account",
    ],
)
def test_sql_that_is_not_allowed(dataverse: Dataverse, text: str) -> None:
    answer = dataverse.send("GET", f"accounts?sql={quote(text)}")
    assert answer.status_code == 400, answer.text


@pytest.fixture
def tree(dataverse: Dataverse) -> tuple[Dataverse, dict[str, str]]:
    """Accounts A over B and C, B over D; E alone."""
    ids: dict[str, str] = {}
    for name, parent in (("A", None), ("B", "A"), ("C", "A"), ("D", "B"), ("E", None)):
        bind = {"parentaccountid@odata.bind": f"/accounts({ids[parent]})"} if parent else {}
        ids[name] = dataverse.ok("POST", "accounts", {"name": name, **bind})
    return dataverse, ids


@pytest.mark.parametrize(
    ("operator", "function", "of", "expected"),
    [
        ("under", "Under", "A", "BCD"),
        ("eq-or-under", "UnderOrEqual", "B", "BD"),
        ("not-under", "NotUnder", "A", "AE"),
        ("above", "Above", "D", "AB"),
        ("eq-or-above", "AboveOrEqual", "D", "ABD"),
        ("above", "Above", "A", ""),
        ("under", "Under", "E", ""),
    ],
)
def test_hierarchies(
    tree: tuple[Dataverse, dict[str, str]], operator: str, function: str, of: str, expected: str
) -> None:
    dataverse, ids = tree
    condition = f'<condition attribute="accountid" operator="{operator}" value="{ids[of]}" />'
    xml = f'<fetch><entity name="account"><attribute name="name" /><filter>{condition}</filter></entity></fetch>'
    found = dataverse.ok("GET", f"accounts?fetchXml={quote(xml)}")["value"]
    assert "".join(sorted(row["name"] for row in found)) == expected
    call = f"Microsoft.Dynamics.CRM.{function}(PropertyName='accountid',PropertyValue='{ids[of]}')"
    assert names(dataverse, f"$filter={call} and statecode eq 0&$orderby=name") == list(expected)


def test_a_loop_in_a_hierarchy_ends(tree: tuple[Dataverse, dict[str, str]]) -> None:
    dataverse, ids = tree
    dataverse.ok("PATCH", f"accounts({ids['A']})", {"parentaccountid@odata.bind": f"/accounts({ids['D']})"})
    call = f"Microsoft.Dynamics.CRM.Under(PropertyName='accountid',PropertyValue='{ids['B']}')"
    assert names(dataverse, f"$filter={call}&$orderby=name") == list("ABCD")


@pytest.mark.parametrize("column", ["name", "parentaccountid", "contactid"])
def test_hierarchies_need_their_key(dataverse: Dataverse, column: str) -> None:
    path = "contacts" if column == "contactid" else "accounts"
    call = f"Microsoft.Dynamics.CRM.Under(PropertyName='{column}',PropertyValue='{ACCOUNT}')"
    dataverse.fails(400, "0x80060888", "GET", f"{path}?$filter={call}")


def test_a_table_can_be_given_a_hierarchy(dataverse: Dataverse) -> None:
    dataverse.table()
    dataverse.ok("POST", "RelationshipDefinitions", {
        "@odata.type": "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata", "SchemaName": "new_thing_parent",
        "ReferencedEntity": "new_thing", "ReferencingEntity": "new_thing", "IsHierarchical": True,
        "Lookup": column("Lookup", "new_ParentId"),
    })  # fmt: skip
    top = dataverse.ok("POST", "new_things", {"new_name": "top"})
    dataverse.ok("POST", "new_things", {"new_name": "below", "new_ParentId@odata.bind": f"/new_things({top})"})
    call = f"Microsoft.Dynamics.CRM.Under(PropertyName='new_thingid',PropertyValue='{top}')"
    assert [row["new_name"] for row in dataverse.ok("GET", f"new_things?$filter={call}")["value"]] == ["below"]
    ends = dataverse.ok("GET", "EntityDefinitions(LogicalName='new_thing')/OneToManyRelationships")["value"]
    assert [end["IsHierarchical"] for end in ends if end["SchemaName"] == "new_thing_parent"] == [True]


def test_rows_of_teams(dataverse: Dataverse) -> None:
    user = dataverse.ok("GET", "WhoAmI")["UserId"]
    unit = dataverse.ok("GET", "businessunits")["value"][0]["businessunitid"]
    team = dataverse.ok("POST", "teams", {"name": "T", "businessunitid@odata.bind": f"/businessunits({unit})"})
    dataverse.ok("POST", f"teams({team})/teammembership_association/$ref", {"@odata.id": f"systemusers({user})"})
    dataverse.ok("POST", "accounts", {"name": "1"})
    dataverse.ok("POST", "accounts", {"name": "2", "ownerid@odata.bind": f"/teams({team})"})
    call = "Microsoft.Dynamics.CRM.{}(PropertyName='ownerid')"
    assert names(dataverse, f"$filter={call.format('EqualUserTeams')}") == ["2"]
    assert names(dataverse, f"$filter={call.format('EqualUserOrUserTeams')}&$orderby=name") == ["1", "2"]
    assert names(dataverse, f"$filter={call.format('EqualUserId')}") == ["1"]
