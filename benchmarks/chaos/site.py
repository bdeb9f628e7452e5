"""The real local stack under faults: processes of it are killed and their dials turned, while several Functions hosts work.

Everything here happens in the thread that made the site: the kernel ties each child to the thread that forked it.
"""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from benchmarks.chaos.faults import Faults
from connector.app import connect
from connector.dataverse import DataverseClient
from connector.settings import read_settings
from local.entra.directory import Directory
from local.process import die_with_parent

PROGRAM = "CHAOS"
_ROOT = Path(__file__).parents[2]
_FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "DATAVERSE_", "ServiceBus", "AzureWebJobs", "AzureFunctionsJobHost")
_QUIETLY = {"AzureFunctionsJobHost__logging__logLevel__default": "Error"}
_TIMERS = (
    "SendNotices",
    "PickUpWaiting",
    "StartReviews",
    "RunMassJobs",
    "SweepChanges",
    "ResubmitDeadLetters",
    "Measure",
)
_QUEUES = ("dataverse-events", "loyalty-changes")
_RUNNING, _PAUSED = 482_100_001, 482_100_002
_PARTS = {"servicebus": "broker_killed_every", "dataverse": "dataverse_killed_every", "entra": "entra_killed_every"}
_APART = 20.0  # seconds between two kills of one part: the supervisor gives up at five deaths a minute
_BUG = re.compile(
    r"^(KeyError|TypeError|AttributeError|AssertionError|ValueError|IndexError|NameError|RuntimeError|ZeroDivisionError"
    r"|decimal\.\w+|json\.\w+\.\w+|pydantic\w*\.\w+|connector\.(?!dataverse)[\w.]+)(:.*)?$"
)


def now() -> datetime:
    return datetime.now(UTC)


class Child:
    """`python -m local ARGUMENTS`, which can be killed and started again; its words are in a file."""

    def __init__(self, log: Path, environment: dict[str, str], *arguments: object) -> None:
        self.log = log
        self._command = [sys.executable, "-m", "local", *map(str, arguments)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._environment = kept | {"PYTHONUNBUFFERED": "1"} | environment
        self._process: subprocess.Popen[bytes] | None = None
        self.due = 0.0  # when to start it again

    def start(self) -> None:
        parent = os.getpid()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with_parent(parent),
            )

    def until_ready(self) -> None:
        """RuntimeError with its last words when it ends instead, or says nothing for two minutes."""
        deadline = time.monotonic() + 120
        while b"\nready " not in b"\n" + self.log.read_bytes():
            if not self.runs or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(self._command)} did not start: {self.log.read_text()[-300:]}")
            time.sleep(0.1)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()


class Host(Child):
    """One process of the function app, on a port of its own. Of each timer Azure runs one: here the first has them all."""

    def __init__(self, home: Path, number: int, settings: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://localhost:{port}"
        idle = {f"AzureWebJobs.{name}.Disabled": "true" for name in _TIMERS if number}
        words = ("functions", "--app", _ROOT, "--home", home / "app", "--port", port)
        super().__init__(home / f"functions-{number}.log", settings | _QUIETLY | idle, *words)

    def bugs(self) -> Counter[str]:
        """What functions raised that no failure of the surroundings explains."""
        with self.log.open(errors="replace") as lines:
            return Counter(line.strip()[:300] for line in lines if _BUG.match(line))


class Site:
    """`tick` does what is due: kills, restarts, dials. `calm` ends the faults. Ends with its `with` block."""

    def __init__(self, home: Path, faults: Faults, hosts: int, chance: random.Random, bug: str = "") -> None:
        self.faults = faults
        self.kinds = set(faults.on)
        self.counts: Counter[str] = Counter()
        self._chance = chance
        self._home = home
        self._stack = Child(home / "up.log", {}, "up", "--home", home / "stack", "--no-functions", "--program", "MAIN")
        self._stack.start()
        self._stack.until_ready()
        self._ends = json.loads((home / "stack" / "endpoints.json").read_text())
        settings = {**self._ends["settings"], "LOYALTY_PROGRAM": PROGRAM, "DATAVERSE_SLOTS": "16"}
        manager = Directory(home / "stack").named("Dynamics")
        told = {"DATAVERSE_CLIENT_ID": manager.client_id, "DATAVERSE_CLIENT_SECRET": manager.secret}
        self.people: DataverseClient = connect(read_settings(settings))
        self.manager: DataverseClient = connect(read_settings(settings | told))
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = self._ends["ca_file"]
        if bug:
            settings |= _planted(home, bug)
        self.hosts = [Host(home, number, settings) for number in range(hosts)]
        self._keys_read: dict[str, Any] = {}
        self._next: dict[str, float] = {}
        self._before: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._ledger = 0
        self._dialled = 0.0

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.stop()
        self.people.close()
        self.manager.close()
        self._stack.stop()

    def start(self) -> None:
        """The hosts, once the company is founded; the first makes the keys."""
        for host in self.hosts:
            host.start()
            host.until_ready()
        self._keys_read = json.loads((self._home / "app" / "functions" / "keys.json").read_text())

    def tick(self) -> None:
        """Call it often: a few times a second."""
        moment = time.monotonic()
        for host in self.hosts:
            if not host.runs and not host.due:
                host.due = moment + self._chance.uniform(0, 5)
            if host.due and moment >= host.due:
                host.due = 0.0
                host.start()
        if self._is_due("functions_killed_every"):
            self.counts["functions killed"] += 1
            self._chance.choice(self.hosts).kill()
        for part, fault in _PARTS.items():
            if self._is_due(fault):
                self.counts[f"{part} killed"] += 1
                self._kill(part)
        if moment - self._dialled > 2:  # one that was started again has forgotten its dials
            self._dialled = moment
            self._dial()

    def weather(self, faults: Faults) -> None:
        """These faults from now on."""
        self.faults = faults
        self.kinds.update(faults.on)

    def calm(self) -> None:
        """The faults stop; what they did remains."""
        self.faults.off()
        while not self._dial():
            time.sleep(0.2)
            self.tick()

    def run_timer(self, name: str) -> bool:
        """As its time comes: now, on the host that has them."""
        url = f"{self.hosts[0].url}/admin/functions/{name}"
        try:
            answer = self._session.post(url, json={}, headers=self._master, timeout=10)
        except requests.RequestException:
            return False
        return answer.status_code == 202

    @property
    def key(self) -> str:
        return str(self._keys_read["host"])

    @property
    def bugs(self) -> Counter[str]:
        return sum((host.bugs() for host in self.hosts), Counter())

    @property
    def waiting(self) -> dict[str, int]:
        """What is still on its way, and dead; the last known figures while a part is being started."""
        dataverse = self._ask(self._ends["dataverse_counters_url"])
        queues = self._ask(self._ends["servicebus_counters_url"]).get("queues", {})
        found = {"outbox of Dataverse": int(dataverse.get("outbox", 1))}
        for name in _QUEUES:
            counts = queues.get(name, {})
            found[name] = counts.get("active", 1) + counts.get("locked", 0) + counts.get("scheduled", 0)
            found[f"{name} dead"] = counts.get("dead_letters", 0)
            self._sum(name, counts.get("completed", 0))
        self._sum("events", dataverse.get("events_delivered", 0))
        return found

    @property
    def unfinished(self) -> int:
        """Sweeps and mass runs that go on at their timer's next time."""
        path = f"loy_bulkruns?$select=loy_name&$filter=loy_status eq {_RUNNING} or loy_status eq {_PAUSED}"
        return len(self.people.get(path))

    @property
    def running(self) -> int:
        """Calls in the function app."""
        return sum(self._ask(f"{h.url}/admin/counters", self._master).get("running", 1) for h in self.hosts)

    @property
    def changes(self) -> int:
        """Messages that functions have worked on, as far as the broker was seen counting them."""
        return sum(self._before[name] + self._seen[name] for name in _QUEUES)

    @property
    def events(self) -> int:
        return self._before["events"] + self._seen["events"]

    @property
    def entries(self) -> int:
        """The ledger's; the last known figure while Dataverse is being started."""
        self._ledger = self._ask(f"{self._ends['dataverse_admin_url']}/rows").get("loy_entry", self._ledger)
        return self._ledger

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.counts.items() if name.endswith("killed"))

    # --- how ---

    @property
    def _master(self) -> dict[str, str]:
        return {"x-functions-key": self._keys_read["master"]}

    def _is_due(self, fault: str) -> bool:
        """Some fault that strikes every so many seconds, at random."""
        mean, moment = getattr(self.faults, fault), time.monotonic()
        if not mean:
            return False
        if fault not in self._next:
            self._next[fault] = moment + self._chance.expovariate(1 / mean)
        if moment < self._next[fault]:
            return False
        self._next[fault] = moment + max(_APART, self._chance.expovariate(1 / mean))
        return True

    def _kill(self, part: str) -> None:
        try:
            os.kill(json.loads((self._home / "stack" / "pids.json").read_text())[part], signal.SIGKILL)
        except (ProcessLookupError, ValueError, OSError):
            self.counts[f"{part} killed"] -= 1  # it is being started just now

    def _dial(self) -> bool:
        """Turn all dials to what the faults say; whether everybody has heard."""
        rates = self.faults
        storage = ("event_lost", "event_duplicated", "event_reordered", "throttled", "unavailable", "answer_lost")
        dataverse = {name: getattr(rates, name) for name in (*storage, "connection_lost", "sql_deadlock")}
        dataverse |= {"event_delay_seconds": 5.0 * bool(rates.event_delayed), "delay": rates.timed_out}
        broker = {
            "lose_session_lock": min(1.0, 0.1 / rates.lock_lost_every) if rates.lock_lost_every else 0.0,
            "drop_connection": rates.settlement_lost / 20,  # a whole connection each time
            "server_busy": rates.send_lost / 5,
            "seed": self._chance.randrange(2**31),
        }
        entra = {"error_rate": rates.unavailable, "token_lifetime_seconds": 30 if rates.unavailable else 3599}
        heard = [
            self._post(f"{self._ends['dataverse_admin_url']}/faults", dataverse),
            self._post(f"{self._ends['servicebus_admin_url']}/faults", broker),
            self._post(f"{self._ends['entra_admin_url']}/dials", entra),
        ]
        return all(heard)

    def _post(self, url: str, body: dict[str, float]) -> bool:
        try:
            answer = self._session.post(url, json=body, timeout=5)
        except requests.RequestException:
            return False
        if answer.status_code in (400, 404):
            raise RuntimeError(f"{url} refused its dials: {answer.text[:200]}")
        return answer.ok

    def _ask(self, url: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = self._session.get(url, headers=headers, timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            return {}
        return dict(answer.json())

    def _sum(self, name: str, count: int) -> None:
        """Counters go on where they were when the process that counts begins again."""
        if count < self._seen[name]:
            self._before[name] += self._seen[name]
        self._seen[name] = count


def _planted(home: Path, bug: str) -> dict[str, str]:
    """What makes Python plant the bug when a host starts."""
    (home / "sitecustomize.py").write_text(f"from benchmarks.chaos.planted import plant\n\n_kept = plant({bug!r})\n")
    return {"PYTHONPATH": f"{home}{os.pathsep}{_ROOT}"}
