"""The parts of the Functions host that are plain functions: schedules, routes, options, bindings, values."""

import datetime
import json
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proton import Message, timestamp

from local.functions.bindings import read_triggers
from local.functions.connection_string import ConnectionString, IdentityConnection
from local.functions.errors import StartError
from local.functions.messages import Reader
from local.functions.ncrontab import Schedule
from local.functions.options import HostOptions, read_options
from local.functions.routes import Route
from local.functions.values import moment, typed

UTC = datetime.UTC


def at(*parts):
    return datetime.datetime(*parts, tzinfo=UTC)


# schedules


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("0 */5 * * * *", at(2026, 1, 1, 0, 0, 0), at(2026, 1, 1, 0, 5, 0)),
        ("0 0 2 * * *", at(2026, 1, 1, 2, 0, 0), at(2026, 1, 2, 2, 0, 0)),
        ("0 0 2 * * *", at(2026, 1, 1, 1, 59, 59, 999999), at(2026, 1, 1, 2, 0, 0)),
        ("30 15 9-17/4 * * MON-FRI", at(2026, 1, 2, 17, 15, 30), at(2026, 1, 5, 9, 15, 30)),
        ("0 0 0 29 2 *", at(2026, 1, 1), at(2028, 2, 29)),
        ("0 0 0 13 * 5", at(2026, 3, 1), at(2026, 3, 13)),  # day and weekday: a Friday the 13th
        ("0 0 12 1 jan,jul *", at(2026, 2, 1), at(2026, 7, 1, 12)),
        ("5/20 * * * * *", at(2026, 1, 1, 0, 0, 25), at(2026, 1, 1, 0, 0, 45)),
    ],
)
def test_next_occurrence(schedule, after, due):
    assert Schedule.parse(schedule).after(after) == due


@given(
    st.sampled_from(
        ["* * * * * *", "0 */7 3,4 * * *", "15,45 30 */6 * * 0", "0 0 0 31 * *", "59 59 23 28-31 feb,mar *"]
    ),
    st.datetimes(at(2024, 1, 1).replace(tzinfo=None), at(2028, 1, 1).replace(tzinfo=None)),
)
@settings(max_examples=100, deadline=None)
def test_an_occurrence_fits_and_none_is_skipped(text, moment_before):
    schedule, before = Schedule.parse(text), moment_before.replace(tzinfo=UTC)

    def fits(t):
        parts = (t.second, t.minute, t.hour, t.day, t.month, t.isoweekday() % 7)
        sets = (schedule.seconds, schedule.minutes, schedule.hours, schedule.days, schedule.months, schedule.weekdays)
        return all(part in allowed for part, allowed in zip(parts, sets, strict=True))

    due = schedule.after(before)
    assert due > before and fits(due)
    step = datetime.timedelta(seconds=1)
    candidate = max(before.replace(microsecond=0) + step, due - datetime.timedelta(minutes=20))
    while candidate < due:
        assert not fits(candidate)
        candidate += step


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("0 0 2 * *", "six"),
        ("60 * * * * *", "second"),
        ("0 x * * * *", "minute"),
        ("0 0 5-2 * * *", "hour"),
        ("0 0 0 0 * *", "day"),
        ("0 0 0 * 13 *", "month"),
        ("0 0 0 * * 7", "day of week"),
        ("0 */0 * * * *", "minute"),
    ],
)
def test_a_wrong_schedule_names_its_field(text, field):
    with pytest.raises(ValueError, match=field):
        Schedule.parse(text)


def test_a_schedule_that_never_comes_is_an_error():
    with pytest.raises(ValueError, match="never"):
        Schedule.parse("0 0 0 30 2 *").after(at(2026, 1, 1))


# routes


@pytest.mark.parametrize(
    ("template", "path", "params"),
    [
        ("redemptions/{code}/void", "redemptions/AB-1/void", {"code": "AB-1"}),
        ("redemptions/{code}/void", "Redemptions/x/VOID", {"code": "x"}),
        ("redemptions/{code}/void", "redemptions/a/b/void", None),
        ("orders/{id:int}", "orders/12", {"id": "12"}),
        ("orders/{id:int}", "orders/12345678901", None),
        ("orders/{id:guid?}", "orders", {}),
        ("orders/{id:guid?}", "orders/no", None),
        ("files/{*path}", "files/a/b", {"path": "a/b"}),
        ("v{major:int}.{minor:int}/x", "v1.2/x", {"major": "1", "minor": "2"}),
    ],
)
def test_routes(template, path, params):
    assert Route(template).match(path) == params


@pytest.mark.parametrize("template", ["a/{b", "a/{b:odd}", "a/b}"])
def test_a_route_not_understood_is_refused(template):
    with pytest.raises(ValueError, match="route"):
        Route(template)


def test_literal_outranks_constrained_outranks_free():
    ranks = [Route(t).rank for t in ("a/b", "a/{x:int}", "a/{x}", "a/{x?}")]
    assert ranks == sorted(ranks)


# host.json


def app_with(tmp_path, document):
    (tmp_path / "host.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return tmp_path


def test_options_and_their_overrides(tmp_path):
    document = {
        "version": "2.0",
        "functionTimeout": "00:10:00",
        "extensions": {"serviceBus": {"maxConcurrentSessions": 64, "SessionIdleTimeout": "00:00:00.3000000"}},
        "extensionBundle": {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"},
    }
    environment = {"AzureFunctionsJobHost__extensions__serviceBus__maxConcurrentSessions": "7"}
    found = read_options(app_with(tmp_path, document), environment, cores=2)
    assert found == HostOptions(
        function_timeout=600, max_concurrent_calls=32, max_concurrent_sessions=7, session_idle_timeout=0.3
    )


def test_defaults_are_the_extensions(tmp_path):
    found = read_options(tmp_path, {}, cores=1)
    assert (found.max_concurrent_sessions, found.max_concurrent_calls, found.max_auto_lock_renewal) == (8, 16, 300)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("{", "not JSON"),
        ({}, "version"),
        ({"version": 2}, "version"),
        ({"version": "2.0", "extensionBundle": {"id": "x"}}, "extensionBundle"),
        ({"version": "2.0", "functionTimeout": "10 min"}, "functionTimeout"),
        ({"version": "2.0", "functionTimeout": "00:61:00"}, "functionTimeout"),
        ({"version": "2.0", "extensions": {"serviceBus": {"maxConcurrentCalls": 0}}}, "maxconcurrentcalls"),
        ({"version": "2.0", "extensions": {"serviceBus": {"autoCompleteMessages": False}}}, "autocompletemessages"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, document, named):
    with pytest.raises(StartError, match=named):
        read_options(app_with(tmp_path, document), {}, cores=1)


# bindings


def http(route=None, methods=("GET",), name="f"):
    binding = {"type": "httpTrigger", "name": "req", "route": route, "methods": list(methods), "direction": "IN"}
    return {name: [binding, {"type": "http", "name": "$return", "direction": "OUT"}]}


@pytest.mark.parametrize(
    ("bindings", "named"),
    [
        (http(name="9lives"), "9lives"),
        (http(name="host"), "host"),
        (http(route="admin/x"), "built in"),
        (http(route="x") | http(route="X", name="g"), "conflicts"),
        (http(route="x") | http(route="x", methods=(), name="g"), "taken"),
        ({"f": [{"type": "timerTrigger", "name": "bad__name", "schedule": "0 * * * * *"}]}, "bad__name"),
        ({"f": [{"type": "blobTrigger", "name": "b"}]}, "blobTrigger"),
        ({"f": [{"type": "serviceBusTrigger", "name": "m", "topicName": "t"}]}, "topics"),
        ({"f": [{"type": "serviceBusTrigger", "name": "m", "queueName": "q", "cardinality": "MANY"}]}, "ONE"),
        ({"f": [{"type": "serviceBusTrigger", "name": "m", "queueName": "q"}]}, "AzureWebJobsServiceBus"),
        (
            {"f": [{"type": "timerTrigger", "name": "t", "schedule": "0 * * * * *"}, {"type": "queue", "name": "o"}]},
            "queue",
        ),
    ],
)
def test_what_the_host_would_drop_stops_the_start(bindings, named):
    with pytest.raises(StartError, match=named):
        read_triggers(bindings, {})


def test_one_route_may_serve_different_methods():
    found = read_triggers(http(route="x") | http(route="x", methods=("POST",), name="g"), {})
    assert [t.name for t in found] == ["f", "g"]


# values and connection


def test_times_go_out_as_dotnet_writes_them():
    assert json.loads(moment(at(2025, 4, 11, 1, 10, 50, 251000)).json) == "2025-04-11T01:10:50.251"
    assert json.loads(moment(at(2025, 4, 11)).json) == "2025-04-11T00:00:00"
    assert json.loads(moment(datetime.datetime.max.replace(tzinfo=UTC)).json) == "9999-12-31T23:59:59.9999999"
    assert json.loads(typed({"b": b"\x01", "t": at(2025, 1, 1)}).json) == {"b": "AQ==", "t": "2025-01-01T00:00:00Z"}


def encoded(body, **properties):
    message = Message()
    message.inferred, message.body, message.properties = True, body, properties or None
    return message.encode()


def test_what_a_message_does_not_have_is_left_out():
    found = Reader().read(encoded(b"x"), binary=False)
    assert sorted(found.metadata) == ["ApplicationProperties", "DeliveryCount", "SequenceNumber", "UserProperties"]
    assert (found.body.string, found.metadata["DeliveryCount"].json) == ("x", "1")
    assert (found.lock_token, found.locked_until) == (None, None)


def test_bodies_and_properties_of_every_kind():
    reader = Reader()
    assert reader.read(encoded(b"\xff"), binary=True).body.bytes == b"\xff"
    assert reader.read(encoded(b"\xff"), binary=False).body.string == "\ufffd"
    assert reader.read(encoded(None), binary=False).body.string == ""
    found = reader.read(encoded(b"", at=timestamp(0), id=uuid.UUID(int=1), raw=b"\x01", n=3), binary=False).metadata
    assert json.loads(found["ApplicationProperties"].json) == {
        "at": "1970-01-01T00:00:00Z",
        "id": "00000000-0000-0000-0000-000000000001",
        "raw": "AQ==",
        "n": 3,
    }
    assert json.loads(reader.read(encoded(b""), binary=False).metadata["UserProperties"].json) == {}  # nothing kept


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Endpoint"),
        ("Endpoint=sb://h;SharedAccessKeyName=n", "SharedAccessKey"),
        ("Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=k", "UseDevelopmentEmulator"),
        ("Endpoint=http://h;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true", "sb://"),
    ],
)
def test_a_wrong_connection_string_is_named(text, named):
    with pytest.raises(ValueError, match=named):
        ConnectionString.parse(text)


def test_a_connection_string_keeps_its_secret():
    text = "Endpoint=sb://localhost:5673;SharedAccessKeyName=n;SharedAccessKey=top+secret=;UseDevelopmentEmulator=true;"
    found = ConnectionString.parse(text)
    assert (found.host, found.port, found.key) == ("localhost", 5673, "top+secret=")
    assert "secret" not in repr(found)
    token, end = found.token("q", 1000)
    assert token.startswith("SharedAccessSignature sr=sb%3A%2F%2Flocalhost%3A5673%2Fq&sig=")
    assert end == 4600


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"Bus__fullyQualifiedNamespace": "contoso.servicebus.windows.net"}, "Bus__fullyQualifiedNamespace"),
        ({"IDENTITY_ENDPOINT": ""}, "IDENTITY_ENDPOINT"),
        ({"IDENTITY_HEADER": ""}, "IDENTITY_HEADER"),
        ({"Bus__clientId": "x"}, "Bus__credential"),
    ],
)
def test_a_wrong_identity_connection_is_named(changes, named):
    right = {"Bus__fullyQualifiedNamespace": "localhost:5672", "IDENTITY_ENDPOINT": "http://h", "IDENTITY_HEADER": "k"}
    assert "'k'" not in repr(IdentityConnection.read("Bus", right))
    with pytest.raises(ValueError, match=named):
        IdentityConnection.read("Bus", right | changes)
