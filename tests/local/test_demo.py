"""`python -m local demo`: what it deletes, what it survives, what it leaves behind."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from local.demo.screen import Screen
from local.demo.stack import StackError
from local.demo.watch import Watch
from local.home import HomeError, claimed, empty
from tests.stack import ROOT, Child, clean_environment, wait_until

SMALL = ("--households", "2", "--weeks", "1")


def alive(pid):
    """A process that runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def parts_of(home):
    file = home / "pids.json"
    return json.loads(file.read_text()) if file.exists() else {}


class TestHome:
    def test_what_a_stack_left_is_deleted_and_nothing_that_it_points_to(self, tmp_path):
        home, other = tmp_path / "home", tmp_path / "other"
        other.mkdir()
        (other / "thesis").write_text("mine")
        with claimed(home):
            (home / "dataverse").mkdir()
            (home / "dataverse" / "dataverse.db").write_text("rows")
            (home / "link").symlink_to(other)
        empty(home)
        assert [path.name for path in home.iterdir()] == [".lock"]
        assert (other / "thesis").read_text() == "mine"
        with claimed(home):  # and a stack may start there
            pass

    def test_a_folder_of_an_earlier_version_is_deleted(self, tmp_path):
        (tmp_path / "format").write_text("1\n")
        (tmp_path / "rows").write_text("old")
        empty(tmp_path)
        assert not (tmp_path / "rows").exists()

    @pytest.mark.parametrize("files", [["thesis"], ["thesis", ".lock"], ["thesis", "logs"], ["format"]])
    def test_any_other_folder_is_refused_and_left_as_it_is(self, tmp_path, files):
        for name in files:
            (tmp_path / name).write_text("mine")
        with pytest.raises(HomeError, match=f"{tmp_path} was not made by a local stack"):
            empty(tmp_path)
        with pytest.raises(HomeError, match=str(tmp_path)), claimed(tmp_path):
            pass
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(files, "mine")

    def test_a_home_in_use_is_refused_and_left_as_it_is(self, tmp_path):
        with claimed(tmp_path):
            (tmp_path / "rows").write_text("kept")
            with pytest.raises(HomeError, match=f"{tmp_path} is in use"):
                empty(tmp_path)
            assert (tmp_path / "rows").read_text() == "kept"
            assert (tmp_path / "format").exists()

    def test_no_folder_is_fine(self, tmp_path):
        empty(tmp_path / "none")
        assert not (tmp_path / "none").exists()


class Figures:
    """The counters of a stack, as `answer` says: (status, completed messages, requests)."""

    def __init__(self):
        self.answer = (200, 0, 0)
        self.asked = []
        figures = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, completed, requested = figures.answer
                figures.asked.append((self.path, self.headers.get("x-functions-key")))
                queue = dict.fromkeys(("active", "locked", "scheduled", "dead_letters"), 0)
                document = {
                    "/dataverse": {"outbox": 0, "requests": requested},
                    "/servicebus": {
                        "queues": dict.fromkeys(
                            ("dataverse-events", "loyalty-changes"), queue | {"completed": completed}
                        )
                    },
                    "/functions": {"running": 0, "functions": {}},
                }[self.path]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        parts = ("dataverse", "servicebus", "functions")
        self.endpoints = {f"{part}_counters_url": f"{url}/{part}" for part in parts}
        self.endpoints |= {"ca_file": True, "master_key": "k3y"}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def figures():
    running = Figures()
    yield running
    running.close()


class TestWatch:
    def test_counts_go_on_over_restarts(self, figures):
        watch = Watch(figures.endpoints)
        seen = []
        for completed, requested in [(5, 50), (9, 90), (2, 95), (4, 99), (0, 3)]:
            figures.answer = (200, completed, requested)
            progress = watch.progress()
            seen.append((progress.applied, progress.requests))
        assert seen == [(5, 50), (9, 90), (11, 95), (13, 99), (13, 102)]

    def test_the_key_is_shown_to_the_function_app_only_and_never_in_an_address(self, figures):
        Watch(figures.endpoints).progress()
        assert sorted(figures.asked) == [("/dataverse", None), ("/functions", "k3y"), ("/servicebus", None)]

    def test_a_part_that_is_away_for_a_moment_is_waited_for(self, figures):
        figures.answer = (503, 0, 0)
        found = []
        waiting = threading.Thread(target=lambda: found.append(Watch(figures.endpoints).progress()))
        waiting.start()
        wait_until(lambda: len(figures.asked) >= 2, about="a second try")
        assert not found
        figures.answer = (200, 7, 0)
        waiting.join(10)
        assert found[0].applied == 7

    def test_a_part_that_stays_away_ends_it_with_one_line_without_secrets(self, figures):
        figures.answer = (503, 0, 0)
        with pytest.raises(StackError) as caught:
            Watch(figures.endpoints, patience=0.1).progress()
        assert str(caught.value) == "dataverse of the local stack does not answer (HTTPError)"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestScreen:
    def test_on_a_terminal_progress_is_one_line_no_wider_than_the_screen(self, monkeypatch):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "20")
        screen = Screen()
        screen.progress("x" * 100)
        screen.progress("short")
        screen.say("it stays")
        screen.progress("again")
        screen.done()
        shown = terminal.getvalue()
        assert shown.count("\n") == 1
        assert max(len(part) for line in shown.split("\n") for part in line.split("\r")) == 19
        assert shown.split("\n")[0].endswith("\rit stays")
        assert shown.endswith("\r" + " " * 19 + "\r")

    def test_where_output_is_kept_progress_is_a_line_now_and_then(self, monkeypatch):
        file = io.StringIO()
        monkeypatch.setattr(sys, "stderr", file)
        clock = [100.0]
        monkeypatch.setattr("local.demo.screen.time.monotonic", lambda: clock[0])
        screen = Screen()
        for second in range(100):
            clock[0] = 100.0 + second
            screen.progress(f"{second} s")
        screen.done()
        assert file.getvalue() == "30 s\n60 s\n90 s\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "home"


@pytest.fixture(scope="module")
def shown(home):
    """A demo whose function app was killed on the way, and which has come to its end and stays."""
    with Child("demo", "--home", str(home), *SMALL) as demo:
        wait_until(lambda: "invoices of 2 households" in demo.output, 100, "the first purchases")
        os.kill(parts_of(home)["functions"], signal.SIGKILL)
        wait_until(lambda: "goes on with these rows" in demo.output or demo.process.poll() is not None, 100, "the end")
        yield demo


class TestDemo:
    """In order: the last test ends the demo."""

    def test_it_survives_a_killed_function_app(self, shown):
        assert shown.process.poll() is None, shown.output
        assert "up: functions ended with status -9; starting it again\n" in shown.lines
        assert "every law of the ledger holds" in shown.output
        assert "Traceback" not in shown.output

    def test_no_secret_is_shown(self, shown, home):
        ends = json.loads((home / "endpoints.json").read_text())
        for secret in ("client_secret", "master_key", "function_key"):
            assert ends[secret] not in shown.output

    def test_the_commands_that_it_shows_work(self, shown, home):
        command = next(line for line in shown.lines if line.startswith("  Commands")).split(maxsplit=1)[1].strip()
        assert command.startswith(f"(. {home}/settings.env && .venv/bin/python -m connector status)")
        mine = command.replace(".venv/bin/python", sys.executable)
        parked = any(line.startswith("  parked: ") for line in shown.lines)
        for words, status in ("connector status", int(parked)), ("connector audit", 0):
            done = subprocess.run(
                ["sh", "-c", mine.replace("connector status", words)],
                cwd=ROOT,
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == status, done.stdout + done.stderr
        assert "every law of the ledger holds" in done.stdout

    def test_the_addresses_that_it_shows_answer(self, shown, home):
        line = next(line for line in shown.lines if line.startswith("  HTTP API"))
        curl, option, header, address = line.removeprefix("  HTTP API").split()
        assert (curl, option) == ("curl", "-H")
        name, value = Path(header.removeprefix("@")).read_text().strip().split(": ")
        answer = requests.get(address, headers={name: value}, timeout=30)
        assert answer.status_code == 200
        assert answer.json()["name"].startswith("Household ")
        page = next(line for line in shown.lines if line.startswith("  Dynamics")).split()[1]
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(home / "tls" / "ca.pem")
            assert "Sign in" in session.get(page, timeout=10).text

    def test_a_second_one_in_the_same_home_is_refused_in_one_line_and_harms_nothing(self, shown, home):
        before = parts_of(home)
        with Child("demo", "--home", str(home), *SMALL) as second:
            assert second.wait() == 1
            assert second.lines == [f"demo: {home} is in use: another local stack runs there\n"]
        assert parts_of(home) == before
        assert all(alive(pid) for pid in before.values())
        assert (home / "dataverse" / "dataverse.db").exists()

    def test_a_stack_that_has_gone_ends_it_with_one_line(self, shown, home):
        parts, told = parts_of(home), len(shown.lines)
        os.kill(child_of(shown.pid), signal.SIGKILL)
        assert shown.wait() == 1
        assert shown.lines[told:] == [f"demo: the local stack ended with status -9; its logs: {home}/logs\n"]
        wait_until(lambda: not any(alive(pid) for pid in parts.values()), about="the end of all parts")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_all_processes(tmp_path, number):
    home = tmp_path / "home"
    with Child("demo", "--home", str(home), *SMALL) as demo:
        wait_until(lambda: len(parts_of(home)) >= 2, 60, "the first parts")
        pids = [child_of(demo.pid), *parts_of(home).values()]
        demo.process.send_signal(number)
        assert demo.wait(60) == 128 + number
        wait_until(lambda: not any(alive(pid) for pid in pids), about="the end of all processes")
        assert "Traceback" not in demo.output


def test_no_process_outlives_a_demo_that_is_killed(tmp_path):
    home = tmp_path / "home"
    with Child("demo", "--home", str(home), *SMALL) as demo:
        # From here on the stack has nothing to say to us, and would not notice that nobody listens.
        wait_until(lambda: "invoices of 2 households" in demo.output, 100, "the first purchases")
        pids = [child_of(demo.pid), *parts_of(home).values()]
        demo.kill()
        wait_until(lambda: not any(alive(pid) for pid in pids), about="the end of all processes")


def test_a_foreign_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    with Child("demo", "--home", str(tmp_path), *SMALL) as demo:
        assert demo.wait() == 1
        assert len(demo.lines) == 1
        assert demo.lines[0].startswith(f"demo: {tmp_path} was not made by a local stack")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]
