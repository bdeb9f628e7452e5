"""Execution contexts as Dataverse posts them."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.dataverse.context import ContextError, ExecutionContext, Reference, parse

CONTRACTS = "http://schemas.microsoft.com/xrm/2011/Contracts"
INVOICE = "33333333-0000-4000-8000-000000000003"
ACCOUNT = "11111111-0000-4000-8000-000000000001"
USER = "b1970000-0000-4000-8000-000000000004"


def typed(kind: str, **values: object) -> dict[str, object]:
    return {"__type": f"{kind}:{CONTRACTS}", **values}


def reference(table: str, row_id: str, name: str | None = None) -> dict[str, object]:
    return typed("EntityReference", Id=row_id, KeyAttributes=[], LogicalName=table, Name=name, RowVersion=None)


def entity(attributes: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "Attributes": [{"key": key, "value": value} for key, value in attributes.items()],
        "EntityState": None,
        "FormattedValues": [],
        "Id": INVOICE,
        "KeyAttributes": [],
        "LogicalName": "invoice",
        "RelatedEntities": [],
        "RowVersion": None,
        **more,
    }


def context(**changes: object) -> dict[str, Any]:
    """An asynchronous post-operation step on Update of invoice."""
    target = entity(
        {
            "invoiceid": INVOICE,
            "statecode": typed("OptionSetValue", Value=2),
            "datedelivered": "/Date(1772323200000)/",
            "totalamount": typed("Money", Value=1250.25),
            "customerid": reference("account", ACCOUNT),
            "ispricelocked": True,
            "description": None,
            "loy_channels": [typed("OptionSetValue", Value=1), typed("OptionSetValue", Value=3)],
        },
        __type=f"Entity:{CONTRACTS}",
    )
    step_name = {"key": "AsynchronousStepPrimaryName", "value": entity({"name": "SO-1001"})}
    post = {"key": "post", "value": entity({"customerid": reference("account", ACCOUNT, "Adatum")})}
    pre = {"key": "pre", "value": entity({"totalamount": typed("Money", Value=1200)})}
    return {
        "BusinessUnitId": "8b3a0000-0000-4000-8000-000000000001",
        "CorrelationId": "7c1f0000-0000-4000-8000-000000000002",
        "Depth": 1,
        "InitiatingUserAgent": "something newer",
        "InitiatingUserId": USER,
        "InputParameters": [{"key": "Target", "value": target}],
        "MessageName": "Update",
        "Mode": 1,
        "OperationCreatedOn": "/Date(1772357400000+0200)/",
        "OperationId": "927b0000-0000-4000-8000-000000000005",
        "OutputParameters": [],
        "ParentContext": None,
        "PostEntityImages": [step_name, post],
        "PreEntityImages": [pre],
        "PrimaryEntityId": INVOICE.upper(),
        "PrimaryEntityName": "invoice",
        "RequestId": "c8460000-0000-4000-8000-000000000008",
        "Stage": 40,
        **changes,
    }


def as_posted(found: object) -> bytes:
    return json.dumps(found).replace("/", "\\/").encode()


def test_an_update_of_an_invoice() -> None:
    assert parse(as_posted(context())) == ExecutionContext(
        message_name="Update",
        table="invoice",
        record_id=INVOICE,
        correlation_id="7c1f0000-0000-4000-8000-000000000002",
        operation_id="927b0000-0000-4000-8000-000000000005",
        depth=1,
        initiating_user_id=USER,
        occurred_on=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        target={
            "invoiceid": INVOICE,
            "statecode": 2,
            "datedelivered": datetime(2026, 3, 1, tzinfo=UTC),
            "totalamount": Decimal("1250.25"),
            "customerid": Reference("account", ACCOUNT),
            "ispricelocked": True,
            "description": None,
            "loy_channels": (1, 3),
        },
        pre={"totalamount": Decimal(1200)},
        post={"customerid": Reference("account", ACCOUNT)},
        trimmed=False,
    )


def test_a_creation_has_no_pre_image_and_a_deletion_no_columns() -> None:
    created = parse(as_posted(context(MessageName="Create", PreEntityImages=[])))
    assert created.pre is None and created.post is not None
    target = [{"key": "Target", "value": reference("invoice", INVOICE)}]
    deleted = parse(as_posted(context(MessageName="Delete", InputParameters=target, PostEntityImages=None)))
    assert deleted.target == {} and deleted.post is None and not deleted.trimmed


def test_rows_inside_rows() -> None:
    party = entity({"partyid": reference("contact", ACCOUNT)})
    collection = typed("EntityCollection", Entities=[party], EntityName="activityparty")
    target = [{"key": "Target", "value": entity({"to": collection})}]
    assert parse(as_posted(context(InputParameters=target))).target == {
        "to": ({"partyid": Reference("contact", ACCOUNT)},)
    }


def test_a_type_we_do_not_know_is_kept_as_it_is() -> None:
    range_ = {"__type": "Range:#Somewhere", "From": 1, "To": typed("Money", Value=2)}
    target = [{"key": "Target", "value": entity({"range": range_})}]
    assert parse(as_posted(context(InputParameters=target))).target == {"range": {"From": 1, "To": Decimal(2)}}


@pytest.mark.parametrize("removal", ["absent", "null", "empty"])
def test_a_trimmed_context_keeps_its_ids(removal: str) -> None:
    found = context()
    for name in ("InputParameters", "PreEntityImages", "PostEntityImages", "ParentContext"):
        if removal == "absent":
            del found[name]
        else:
            found[name] = None if removal == "null" else []
    trimmed = parse(as_posted(found))
    assert trimmed.trimmed and (trimmed.record_id, trimmed.target, trimmed.pre, trimmed.post) == (
        INVOICE,
        {},
        None,
        None,
    )


def test_the_message_property_says_trimmed_too() -> None:
    assert parse(as_posted(context()), max_size_exceeded=True).trimmed


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("PrimaryEntityId", {"PrimaryEntityId": "7"}),
        ("PrimaryEntityName", {"PrimaryEntityName": None}),
        ("MessageName", {"MessageName": 3}),
        ("CorrelationId", {"CorrelationId": ""}),
        ("Depth", {"Depth": "1"}),
        ("Depth", {"Depth": True}),
        ("OperationCreatedOn", {"OperationCreatedOn": "2026-03-01"}),
        ("OperationCreatedOn", {"OperationCreatedOn": "/Date(99999999999999999)/"}),
        ("InputParameters", {"InputParameters": {}}),
        ("InputParameters[0]", {"InputParameters": [{"value": 1}]}),
        ("InputParameters.Target", {"InputParameters": [{"key": "Target", "value": 1}]}),
        ("PreEntityImages.pre.a", {"PreEntityImages": [{"key": "pre", "value": entity({"a": typed("Money")})}]}),
        (
            "PreEntityImages.pre.a",
            {"PreEntityImages": [{"key": "pre", "value": entity({"a": typed("OptionSetValue")})}]},
        ),
        (
            "PostEntityImages.post.c.Id",
            {"PostEntityImages": [{"key": "post", "value": entity({"c": reference("account", "x")})}]},
        ),
    ],
)
def test_what_is_wrong_is_named(field: str, change: dict[str, object]) -> None:
    with pytest.raises(ContextError) as caught:
        parse(as_posted(context(**change)))
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"null", b"NaN", b"<xml/>", b"[" * 100_000])
def test_no_context_at_all(body: bytes) -> None:
    with pytest.raises(ContextError, match=r"^body"):
        parse(body)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("/Date(1)/"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "value", "__type", "Attributes", "Value", "Id", "x"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(context())), junk, max_size=3))
@settings(max_examples=300)
def test_junk_is_read_or_refused_by_name(changes: dict[str, object]) -> None:
    try:
        parse(json.dumps(context(**changes)))
    except ContextError as error:
        assert error.field


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(ContextError):
        parse(body)


@given(st.datetimes(min_value=datetime(1753, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_any_time_of_dataverse_survives(naive: datetime) -> None:
    moment = naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=UTC)
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000
    found = parse(as_posted(context(OperationCreatedOn=f"/Date({round(milliseconds)})/")))
    assert found.occurred_on == moment
