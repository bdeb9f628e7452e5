"""What the log never shows, and what it always tells."""

import json
import logging
import time
from collections.abc import Iterator

import pytest

from connector import logs

SECRET = "kJ8~the.client.secret"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG)
    yield caplog
    logs.uninstall()


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey={SECRET}",
        f"DefaultEndpointsProtocol=https;AccountKey={SECRET};",
        f"SharedAccessSignature sr=sb%3a%2f%2fx&sig={SECRET}&se=1",
        f"https://x.azurewebsites.net/api/customers?code={SECRET}&x=1",
        f"x-functions-key: {SECRET}",
        f"grant_type=client_credentials&client_secret={SECRET}&scope=a",
        f'{{"client_secret": "{SECRET}"}}',
        f"password={SECRET}",
        f"access_token={SECRET}",
        "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2VjcmV0",
        "written by ada.lovelace+x@mail.example.com yesterday",
    ],
)
def test_secrets_and_addresses_are_hidden(lines: pytest.LogCaptureFixture, text: str) -> None:
    logs.install()
    logging.getLogger("somebody.else").warning("failed: %s", text)
    logging.getLogger("somebody.else").warning(text)
    assert len(lines.records) == 2
    for hidden in (SECRET, "eyJzdWIi", "lovelace"):
        assert hidden not in lines.text


def test_what_is_no_secret_stays() -> None:
    for text in (
        "bearer of news",
        "key account:5f0c1b52 at a@b",
        "SharedAccessKeyName=connector",
        "signature",
        "code=ABC",
    ):
        assert logs.redact(text) == text


def test_the_settings_secrets_are_hidden_wherever_they_turn_up(lines: pytest.LogCaptureFixture) -> None:
    logs.install([SECRET])
    try:
        raise ValueError(f"no {SECRET} here")
    except ValueError:
        logging.getLogger("loyalty").exception("it was %s", SECRET)
    assert SECRET not in lines.text
    assert "ValueError: no [hidden] here" in lines.text


def test_a_line_says_what_it_is_about_and_is_one_line(lines: pytest.LogCaptureFixture) -> None:
    logs.install()
    with logs.about(correlation_id="c-1", record=""):
        with logs.about(change="h-1"):
            logging.getLogger("loyalty").info("name: %s", "Ada\n[correlation_id=forged] balance 9\x1b[31m")
        logging.getLogger("loyalty").info("outside")
    logging.getLogger("loyalty").info("alone")
    first, second, third = (record.getMessage() for record in lines.records)
    assert first == r"[correlation_id=c-1 change=h-1] name: Ada\x0a[correlation_id=forged] balance 9\x1b[31m"
    assert second == "[correlation_id=c-1] outside"
    assert third == "alone"


def test_neither_what_a_line_is_about_nor_an_error_s_text_begins_a_line(lines: pytest.LogCaptureFixture) -> None:
    logs.install([SECRET])
    forged = "[change=h-2] applied: 9 points"
    with logs.about(correlation_id=f"x\n{forged}", record=SECRET):
        try:
            raise ValueError(f"no such name: Ada\n{forged}")
        except ValueError:
            logging.getLogger("loyalty").exception("it failed")
    first, *others = lines.records[0].getMessage().splitlines()
    assert first == rf"[correlation_id=x\x0a{forged} record=[hidden]] it failed"
    assert any(forged in line for line in others)
    assert all(line.startswith("    ") for line in others)


def test_json_lines(lines: pytest.LogCaptureFixture) -> None:
    logs.install([SECRET], as_json=True)
    with logs.about(correlation_id="c-1"):
        try:
            raise ValueError(f'"{SECRET}"')
        except ValueError:
            logging.getLogger("loyalty").exception("said %s", '"yes"')
    found = json.loads(lines.records[0].getMessage())
    assert (found["level"], found["logger"], found["correlation_id"]) == ("ERROR", "loyalty", "c-1")
    assert found["message"] == 'said "yes"'
    assert "[hidden]" in found["exception"]
    assert len(lines.text.splitlines()) == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_no_handler_is_given_the_exception_itself(lines: pytest.LogCaptureFixture, as_json: bool) -> None:
    """Exporters of telemetry quote it without asking a formatter."""
    logs.install([SECRET], as_json=as_json)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("loyalty").exception("it failed")
    (record,) = lines.records
    assert (record.exc_info, record.exc_text) == (None, None)
    assert "ValueError: [hidden]" in record.getMessage()
    assert lines.text.count("Traceback") == 1


def test_a_line_whose_arguments_do_not_fit_is_kept(lines: pytest.LogCaptureFixture) -> None:
    logs.install()
    logging.getLogger("loyalty").info("%s and %s", "one")
    assert "one" in lines.records[0].getMessage()


@pytest.mark.parametrize(
    "piece", ["a", "eyJ-", "bearer ", "password=", "a@", "x.y@z.", "code=&", "\n", "SharedAccessKey"]
)
def test_a_hostile_line_costs_no_more_than_a_long_one(lines: pytest.LogCaptureFixture, piece: str) -> None:
    logs.install()
    started = time.process_time()
    logging.getLogger("loyalty").warning("%s", piece * (2_000_000 // len(piece)))
    assert time.process_time() - started < 2
    assert len(lines.records[0].getMessage()) <= 100_000
