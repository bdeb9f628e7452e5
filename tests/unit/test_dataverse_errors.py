"""Which answers are worth repeating, and what the others are called."""

import pytest

from connector.dataverse import (
    BadRequest,
    ConcurrencyMismatch,
    Conflict,
    DataverseError,
    DuplicateKey,
    DuplicateRecord,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    Terminal,
    Transient,
    Unauthorized,
)
from connector.dataverse.errors import error_from, number


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "0x80072322", Transient),
        (429, "", Transient),
        (400, "0x80044150", Transient),
        (500, -2147204783, Transient),
        (500, "-2147012608", Transient),
        (503, "", Transient),
        (502, "", OutcomeUnknown),
        (504, "", OutcomeUnknown),
        (500, "", OutcomeUnknown),
        (400, "0x80048D19", BadRequest),
        (401, "", Unauthorized),
        (403, "0x80040220", Forbidden),
        (404, "0x80040217", NotFound),
        (412, "0x80060892", DuplicateKey),
        (412, "-2147088238", DuplicateKey),
        (412, "0x80040237", DuplicateRecord),
        (412, "0x80060882", ConcurrencyMismatch),
        (412, "0x80040333", Conflict),
        (418, "", Terminal),
    ],
)
def test_kinds(status: int, code: object, kind: type[DataverseError]) -> None:
    assert type(error_from(status, code, "why")) is kind


def test_a_read_has_no_unknown_outcome() -> None:
    assert type(error_from(502, "", "", writes=False)) is Transient


def test_an_unexpected_error_is_repeated_once() -> None:
    for error in (error_from(500, "0x80040216", ""), error_from(500, "", "")):
        assert isinstance(error, Transient) and error.repeats == 1


def test_a_412_is_told_by_its_condition() -> None:
    assert type(error_from(412, "", "", if_match='W/"1"')) is ConcurrencyMismatch
    assert type(error_from(412, "0x0", "", if_none_match="*")) is DuplicateRecord
    assert type(error_from(412, "0x80060891", "", if_none_match="*")) is DuplicateRecord
    assert type(error_from(412, "0x80040333", "", if_none_match="*")) is Conflict
    assert type(error_from(412, "", "", if_match="*")) is Conflict


@pytest.mark.parametrize("code", [None, "", "0x", "x", [], 0, "0x0"])
def test_no_code(code: object) -> None:
    assert number(code) == 0


def test_an_error_says_where_and_what() -> None:
    message = (
        "Entity Key loy_EntrySequenceKey violated. A record with the same value for Sequence already exists. "
        "A duplicate record cannot be created. Select one or more unique values and try again."
    )
    error = error_from(412, "0x80060892", message, request_id="r-1", operation="POST loy_entries")
    assert isinstance(error, DuplicateKey)
    assert error.key == "loy_EntrySequenceKey"
    assert str(error) == f"{message} (HTTP 412, 0x80060892, POST loy_entries, request r-1)"
    copy = error.fresh()
    assert copy is not error and str(copy) == str(error) and copy.key == error.key


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("Could not find a property named 'Name' on type 'Microsoft.Dynamics.CRM.account'.", "Name"),
        ("Invalid property 'Naem' was found in entity 'Microsoft.Dynamics.CRM.account'.", "Naem"),
        ("The length of the 'loy_name' attribute of the 'loy_entry' entity exceeded the maximum allowed.", "loy_name"),
        ("state and status do not match", ""),
    ],
)
def test_a_bad_request_names_its_field(message: str, field: str) -> None:
    error = error_from(400, "0x80048D19", message)
    assert isinstance(error, BadRequest) and error.field == field
