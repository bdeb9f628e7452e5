"""The local stack without our app, and the processes that are measured on it, one at a time."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from benchmarks.hot_path.protocol import durable
from benchmarks.hot_path.seed import Planter, utc_now
from benchmarks.hot_path.stream import Names, Recording
from connector.app import connect
from connector.bus import Change
from connector.dataverse import ClientSecretTokens
from connector.rows.programs import read_program
from connector.settings import read_settings
from local.process import die_with_parent

ROOT = Path(__file__).parent.parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_STARTS_WITHIN = 60.0
_QUIET_TIMERS = ("SendNotices", "PickUpWaiting", "StartReviews", "SweepChanges", "ResubmitDeadLetters", "Measure")
HOSTED = ("ours", "floor_host")
IMPLEMENTATIONS = ("floor", "floor_host", "naive", "naive_sdk", "ours")


class Subject:
    """A measured process; `times` tells since when (seconds since 1970) each change is durable."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.times: dict[str, float] = {}
        self.lines: list[str] = []
        self._ready: dict[str, Any] | None = None
        self._news = threading.Condition()
        parent = os.getpid()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> dict[str, Any]:
        """What it said when it was ready."""
        self._until(lambda: self._ready is not None, _STARTS_WITHIN, "ready")
        return self._ready or {}

    def until_done(self, changes: Sequence[Change], within: float) -> bool:
        """Whether all of them became durable within so many seconds."""
        wanted = {change.id for change in changes}
        try:
            self._until(lambda: wanted <= self.times.keys(), within, "done")
        except TimeoutError:
            return False
        return True

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        values = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / _TICKS

    def memory(self) -> int:
        """Resident kilobytes now."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) if found else 0

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)

    def _until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        with self._news:
            ended = not self._news.wait_for(lambda: condition() or self.process.poll() is not None, within)
        if self.process.poll() is not None and not condition():
            raise SystemExit(
                f"hot_path: the process ended with {self.process.returncode}:\n" + "".join(self.lines[-20:])
            )
        if ended:
            raise TimeoutError(f"not {what} within {within:.0f} s")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = durable(line)
            with self._news:
                if found:
                    self.times.setdefault(*found)
                elif line.startswith("ready"):
                    self._ready = json.loads(line.removeprefix("ready").strip() or "{}")
                else:
                    self.lines = [*self.lines[-200:], line]
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@dataclass(frozen=True, slots=True)
class Counted:
    """What Dataverse counted while something ran; `seconds` are those of its model of execution time."""

    requests: int
    operations: int
    seconds: float
    statuses: dict[str, int] = field(default_factory=dict)


class Lab:
    """A stack for the time of a `with` block."""

    def __init__(self, endpoints: dict[str, Any], home: Path) -> None:
        self.endpoints, self.home = endpoints, home
        self.settings = read_settings(endpoints["settings"])
        self.client = connect(self.settings)
        self.program = read_program(self.client, self.settings.loyalty_program)
        e = endpoints
        self._admin = requests.Session()
        self._admin.trust_env = False
        self._admin.verify = e["ca_file"]
        self.tokens = ClientSecretTokens(
            e["tenant_id"], e["client_id"], e["client_secret"], e["dataverse_url"], e["authority"], e["ca_file"]
        )
        self._planter = Planter(e["dataverse_url"], e["ca_file"], self.tokens, self.client)
        self._bus = ServiceBusClient.from_connection_string(e["servicebus_connection_string"])
        self._sender = self._bus.get_queue_sender(self.settings.changes_queue)

    def plant(self, recording: Recording, names: Names) -> None:
        self._planter.plant(self.program, recording, names, utc_now())

    def send(self, changes: Sequence[Change]) -> None:
        """Puts changes on the session queue, in order."""
        for start in range(0, len(changes), 100):
            self._sender.send_messages([_message(change) for change in changes[start : start + 100]])

    @contextlib.contextmanager
    def running(self, name: str, sessions: int, **more: str) -> Iterator[Subject]:
        """An implementation, ready to take messages; `more` are settings."""
        environment = _environment() | self.endpoints["settings"] | more
        if name in HOSTED:
            environment |= _host_settings(sessions)
            app = ROOT
            if name == "floor_host":
                app = self.home / "floor_app"
                app.mkdir(exist_ok=True)
                shutil.copy(Path(__file__).parent / "floor_app.py", app / "function_app.py")
                shutil.copy(ROOT / "host.json", app / "host.json")
            command = ["local", "functions", "--app", str(app), "--home", str(self.home / "host"), "--port", "0"]
        else:
            command = ["benchmarks.hot_path.worker", name, "--sessions", str(sessions)]
        subject = Subject([sys.executable, "-m", *command], environment)
        try:
            told = subject.ready()
            if name in HOSTED:
                self._until_connected(told["admin_url"])
            yield subject
        finally:
            subject.stop()

    def delay(self, seconds: float) -> None:
        self.faults({"delay": 1.0 if seconds else 0.0, "delay_seconds": seconds})

    def faults(self, dials: dict[str, float]) -> None:
        self._admin.post(f"{self.endpoints['dataverse_admin_url']}/faults", json=dials).raise_for_status()

    def reset_counters(self) -> None:
        self._admin.post(self.endpoints["dataverse_counters_url"]).raise_for_status()

    def counted(self) -> Counted:
        found = self._admin.get(self.endpoints["dataverse_counters_url"]).json()
        operations = sum(sum(tables.values()) for tables in found["operations"].values())
        return Counted(found["requests"], operations, found["modelled_execution_seconds"], found["statuses"])

    def key(self, name: str) -> str:
        """The key `master` or `host` of the function app."""
        return str(json.loads((self.home / "host" / "functions" / "keys.json").read_text())[name])

    def close(self) -> None:
        self._sender.close()
        self._bus.close()
        self.client.close()

    def _until_connected(self, admin_url: str) -> None:
        request = urllib.request.Request(f"{admin_url}/host/status", headers={"x-functions-key": self.key("master")})
        deadline = time.monotonic() + _STARTS_WITHIN
        while time.monotonic() < deadline:
            with urllib.request.urlopen(request, timeout=10) as answer:
                if json.load(answer)["service_bus_connected"]:
                    return
            time.sleep(0.05)
        raise SystemExit("hot_path: the host did not reach the Service Bus")


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """A fresh stack in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command = [sys.executable, "-m", "local", "up", "--home", str(home / "stack"), "--no-functions"]
        parent = os.getpid()
        stack = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: die_with_parent(parent),
        )
        assert stack.stdout is not None
        try:
            line = next((line for line in stack.stdout if line.startswith("ready ")), None)
            if line is None:
                raise SystemExit("hot_path: the local stack did not start; what it said is above")
            made = Lab(json.loads(line.removeprefix("ready ")), home)
            try:
                yield made
            finally:
                made.close()
        finally:
            stack.terminate()
            stack.wait()


def _environment() -> dict[str, str]:
    foreign = ("DATAVERSE_", "ServiceBus", "AzureWebJobs", "AzureFunctionsJobHost", "REQUESTS_CA_BUNDLE", "LOYALTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONUNBUFFERED": "1", "LOG_FORMAT": "json", "NO_PROXY": "localhost,127.0.0.1"}


def _host_settings(sessions: int) -> dict[str, str]:
    """No timers, which would add requests of their own. Threads enough for the sessions."""
    return {
        "AzureFunctionsJobHost__extensions__serviceBus__maxConcurrentSessions": str(sessions),
        **{f"AzureWebJobs.{name}.Disabled": "true" for name in _QUIET_TIMERS},
    }


def _message(change: Change) -> ServiceBusMessage:
    return ServiceBusMessage(
        change.model_dump_json(exclude_defaults=True), session_id=change.session, message_id=change.id
    )
