"""The Functions host without a Service Bus: HTTP, keys, timers, start-up."""

import json

import pytest
import requests

from tests.local.sample import SAMPLE_APP, records, sample_environment
from tests.stack import Child, wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    environment = sample_environment(
        home,
        **{
            "AzureWebJobs.on_session.Disabled": "true",
            "AzureWebJobs.on_plain.Disabled": "true",
            "AzureWebJobs.switched_off.Disabled": "true",
        },
    )
    with Child("functions", "--app", str(SAMPLE_APP), "--home", str(home), environment=environment) as host:
        url = host.ready()["functions_url"]
        keys = json.loads((home / "functions" / "keys.json").read_text())
        yield host, home, url, keys


def test_http_request_and_answer_arrive_whole(running):
    _, _, url, keys = running
    answer = requests.post(
        f"{url}/api/echo/7/tail?a=1&a=2&flag=&b=x%20y",
        data='{"n": 1}',
        headers={"x-functions-key": keys["functions"]["echo"], "x-custom": "yes"},
        timeout=5,
    )
    assert answer.status_code == 201
    assert answer.headers["X-Seen"] == "1"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "method": "POST",
        "params": {"id": "7", "rest": "tail"},
        "query": {"a": "1,2", "b": "x y"},  # joined by commas; an empty value is dropped
        "body": '{"n": 1}',
        "header": "yes",
    }


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/echo/7", None, 401),
        ("/api/echo/7", "wrong", 401),
        ("/api/echo/7", "host", 201),
        ("/api/echo/7", "master", 201),
        ("/api/echo/literal", "host", 401),  # level admin: a literal segment outranks {id:int}
        ("/api/echo/literal", "master", 204),
        ("/api/open", None, 200),
        ("/open", None, 404),
        ("/api/echo/seven", "host", 404),  # not an int
        ("/api/switched/off", None, 404),
        ("/api/switched/off", "master", 200),
        ("/admin/host/ping", None, 200),
        ("/admin/counters", "host", 401),
        ("/admin/counters", "master", 200),
        ("/admin/functions/nobody", "master", 404),
    ],
)
def test_keys_and_routes(running, path, key, status):
    _, _, url, keys = running
    headers = {"x-functions-key": keys.get(key, key)} if key else {}
    method = "POST" if "/admin/functions/" in path else "GET"
    assert requests.request(method, url + path, headers=headers, timeout=5).status_code == status


def test_the_key_may_come_in_the_query_but_the_header_wins(running):
    _, _, url, keys = running
    good = keys["functions"]["echo"]
    assert requests.get(f"{url}/api/echo/1", params={"code": good}, timeout=5).status_code == 201
    wrong = requests.get(f"{url}/api/echo/1", params={"code": good}, headers={"x-functions-key": "no"}, timeout=5)
    assert wrong.status_code == 401


def test_a_failing_function_is_a_500_without_details(running):
    host, _, url, keys = running
    answer = requests.get(f"{url}/api/echo/1?fail=1", headers={"x-functions-key": keys["host"]}, timeout=5)
    assert (answer.status_code, answer.text) == (500, "")
    wait_until(lambda: "asked to fail" in host.output, about="the failure in the log")
    counters = requests.get(f"{url}/admin/counters", headers={"x-functions-key": keys["master"]}, timeout=5).json()
    assert counters["functions"]["echo"]["failed"] >= 1
    assert counters["running"] == 0


def test_a_timer_runs_on_demand_with_its_status(running):
    _, home, url, keys = running
    before = len(records(home, "timer"))
    answer = requests.post(
        f"{url}/admin/functions/on_timer", json={"input": ""}, headers={"x-functions-key": keys["master"]}, timeout=5
    )
    assert answer.status_code == 202
    wait_until(lambda: len(records(home, "timer")) > before, about="the timer's run")
    last = records(home, "timer")[-1]
    assert last["past_due"] is False
    assert last["status"]["Next"].startswith("20")


def test_no_key_is_in_the_log(running):
    host, _, _, keys = running
    assert not any(key in host.output for key in [keys["master"], keys["host"], *keys["functions"].values()])


def test_a_timer_keeps_its_schedule_and_makes_up_for_what_it_missed(tmp_path):
    off = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("on_session", "on_plain")}
    environment = sample_environment(tmp_path, SCHEDULE="*/1 * * * * *", **off)
    arguments = ("functions", "--app", str(SAMPLE_APP), "--home", str(tmp_path))
    with Child(*arguments, environment=environment) as host:
        host.ready()
        wait_until(lambda: len(records(tmp_path, "timer")) >= 2, about="two ticks")
        host.kill()
    count = len(records(tmp_path, "timer"))
    status_file = tmp_path / "functions" / "timers.json"
    status = json.loads(status_file.read_text())
    status["on_timer"]["next"] = "2020-01-01T00:00:00+00:00"
    status_file.write_text(json.dumps(status))
    with Child(*arguments, environment=environment) as host:
        host.ready()
        wait_until(lambda: len(records(tmp_path, "timer")) > count, about="the missed tick")
        assert host.stop() == 0
    assert records(tmp_path, "timer")[count]["past_due"] is True


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"SESSION_QUEUE": ""}, "function on_session: queueName needs the setting SESSION_QUEUE"),
        ({"ServiceBusConnection": ""}, "the setting ServiceBusConnection"),
        ({"ServiceBusConnection": "Endpoint=sb://localhost"}, "SharedAccessKeyName is missing"),
        ({"SCHEDULE": "0 0 2 * *"}, "function on_timer: schedule"),
        ({"AzureFunctionsJobHost__extensions__serviceBus__maxConcurrentSessions": "many"}, "maxconcurrentsessions"),
        ({"RECORD": None}, "the app did not load: KeyError: 'RECORD'"),
    ],
)
def test_a_wrong_setting_stops_the_start_in_one_line(tmp_path, change, named):
    environment = sample_environment(tmp_path) | {k: v for k, v in change.items() if v is not None}
    for name in [name for name, value in change.items() if value is None]:
        del environment[name]
    with Child("functions", "--app", str(SAMPLE_APP), "--home", str(tmp_path), environment=environment) as host:
        assert host.wait() == 1
        assert named in host.lines[-1]
        assert len(host.lines) == 1, host.output


def test_settings_come_from_a_file_and_the_environment_outranks_it(tmp_path):
    off = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("on_session", "on_plain")}
    values = {"SCHEDULE": "wrong", "SESSION_QUEUE": "s", "PLAIN_QUEUE": "p", **off}
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"IsEncrypted": False, "Values": values}))
    environment = sample_environment(tmp_path)
    del environment["SESSION_QUEUE"]
    arguments = ("functions", "--app", str(SAMPLE_APP), "--home", str(tmp_path), "--settings", str(file))
    with Child(*arguments, environment=environment) as host:
        host.ready()
        assert host.stop() == 0
