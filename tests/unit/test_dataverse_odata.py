"""Operations and literals: what goes into a URL or a body comes out unchanged at the other end."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.dataverse import Create, Delete, Get, Update, Upsert, odata

ID = "33333333-0000-4000-8000-00000000000A"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False, places=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_keeps_every_digit(value: object) -> None:
    encoded = odata.encode(value)
    assert odata.decode(encoded) == value
    assert json.loads(encoded, parse_float=Decimal) == value
    assert "\n" not in encoded and "\r" not in encoded


def test_money_beyond_a_double_survives() -> None:
    amount = Decimal("922337203685477.1234")
    assert odata.encode({"totalamount": amount}) == '{"totalamount":922337203685477.1234}'
    assert odata.encode(Decimal("1E+3")) == "1000"
    assert odata.encode(Decimal("0.0000001")) == "0.0000001"


def test_times_dates_and_ids_have_their_spelling() -> None:
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert odata.encode([noon, date(2026, 3, 1), UUID(ID)]) == f'["2026-03-01T10:00:00Z","2026-03-01","{ID.lower()}"]'
    assert odata.moment(datetime(2026, 3, 1, 0, 0, 0, 250_000, tzinfo=UTC)) == "2026-03-01T00:00:00.250000Z"
    assert odata.utc("2026-03-01T10:00:00Z") == datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [1.5, b"x", {1, 2}, object(), datetime(2026, 1, 1), Decimal("NaN")],  # noqa: DTZ001
)
def test_a_value_that_would_lose_something_is_refused_by_column(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match="loy_spend"):
        odata.encode({"Targets": [{"loy_spend": value}]})


@pytest.mark.parametrize("text", ["NaN", "[1e99999999999999999999]", "[Infinity]", '{"a":-Infinity}', "", "{"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        odata.decode(text)


@given(st.text())
def test_a_text_literal_reads_back(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    literal = odata.text(value)
    path = odata.escaped(f"loy_entries?$filter=loy_idempotencykey eq {literal}&$top=1")
    assert path.isascii() and " " not in path
    assert path.count("&") == 1 and "#" not in path and "+" not in path
    inside = unquote(path).removeprefix("loy_entries?$filter=loy_idempotencykey eq '").removesuffix("'&$top=1")
    assert inside.replace("''", "'") == value


def test_a_quote_is_doubled_and_everything_special_escaped() -> None:
    assert odata.text("O'Hara & Co #1+2%/é") == "'O%27%27Hara%20%26%20Co%20%231%2B2%25%2F%C3%A9'"


def test_queries_and_rows_are_spelled() -> None:
    where = f"loy_sequence gt 3 and {odata.any_of('loy_cause', [odata.text('a'), odata.text('b')])}"
    assert odata.query("loy_entries", select=["a", "b"], where=where, order_by="loy_sequence", top=5) == (
        "loy_entries?$select=a,b&$filter=loy_sequence gt 3 and (loy_cause eq 'a' or loy_cause eq 'b')"
        "&$orderby=loy_sequence&$top=5"
    )
    assert odata.query("loy_entries") == "loy_entries"
    assert odata.row("invoices", f"{{{ID}}}") == f"invoices({ID.lower()})"
    assert odata.bind("accounts", UUID(ID)) == f"/accounts({ID.lower()})"
    with pytest.raises(ValueError, match="loy_cause"):
        odata.any_of("loy_cause", [])


@pytest.mark.parametrize("value", ["", "1", f"{ID})/x", f"{ID} ", f"{ID}\n", "g" * 36])
def test_only_ids_become_part_of_a_path(value: str) -> None:
    with pytest.raises(ValueError, match="not a row id"):
        odata.guid(value)


def test_operations_as_http() -> None:
    assert Get("invoices", annotations="*").part().headers[1] == ("Prefer", 'odata.include-annotations="*"')
    assert Create("loy_entries", {"a": 1}).part() == ("POST", "loy_entries", (), '{"a":1}')
    assert Update("accounts(x)", {}).part() == ("PATCH", "accounts(x)", (("If-Match", "*"),), "{}")
    assert Update("accounts(x)", {}, 'W/"7"').part().headers == (("If-Match", 'W/"7"'),)
    assert Upsert("accounts(x)", {}).part().headers == ()
    assert Upsert("accounts(x)", {}, only_if_new=True).part().headers == (("If-None-Match", "*"),)
    assert Delete("accounts(x)").part() == ("DELETE", "accounts(x)", (("If-Match", "*"),), None)


def test_nothing_can_break_out_of_its_line() -> None:
    assert "\r" not in Get("a?$filter=b eq '\r\n\r\nDELETE /'").part().path
    with pytest.raises(ValueError, match="If-Match"):
        Update("a(1)", {}, 'W/"1"\r\nX: y').part()
    with pytest.raises(ValueError, match="loy_Account"):
        Create("a", {"loy_Account@odata.bind": "$1"}).part()
    with pytest.raises(ValueError, match="path"):
        Get("a?$filter=" + "x" * 66_000).part()


def test_the_id_of_a_written_row() -> None:
    root = "https://org.crm.dynamics.com/api/data/v9.2/"
    assert odata.id_of(f"{root}accounts({ID})") == ID.lower()
    assert odata.id_of(f"{root}accounts(accountnumber='A-17')") is None
    assert odata.id_of(None) is None
