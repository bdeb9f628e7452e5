"""`python -m local up`: the whole stack as processes that are watched, restarted when they die and ended together."""

import argparse
import contextlib
import json
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from local.entra.cli import IDENTITY
from local.entra.directory import Directory
from local.files import write_private
from local.home import HomeError, claimed
from local.process import die_with_parent, say_ready
from local.tls import ensure_certificates

_ROOT = Path(__file__).parent.parent
_QUEUES = Path(__file__).parent / "queues.json"
_PORTS = ("entra", "dataverse", "servicebus", "servicebus_admin", "functions", "dynamics", "identity")
_READY_WITHIN = 60.0
_END_WITHIN = 20.0
_DEATHS, _WITHIN = 5, 60.0  # so many deaths of a process in so many seconds, and we give up
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CLIENT, _SHELL = "Loyalty connector", "Dynamics"
_QUEUE_SETTINGS = {
    "EVENTS_QUEUE": "dataverse-events",
    "CHANGES_QUEUE": "loyalty-changes",
    "NOTICES_QUEUE": "loyalty-notices",
}


class UpError(Exception):
    """Why the stack cannot start or go on: one line."""


class _Stopped(Exception):
    """One of the signals that end us."""


def _stop(*_: object) -> None:
    raise _Stopped


@dataclass
class Part:
    """One process of the stack: its arguments to `python -m local`, its log, what it said when it was ready."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[str] | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    deaths: list[float] = field(default_factory=list)


class Supervisor:
    """Starts parts, waits for their `ready`, restarts those that die. Use it in one thread: the kernel ties each child
    to the thread that forked it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._parts: list[Part] = []
        self._events: queue.SimpleQueue[tuple[str, Part, Any]] = queue.SimpleQueue()

    def start(self, part: Part) -> dict[str, Any]:
        """Runs the part and returns the JSON of its `ready`; UpError with its last words if it ends instead."""
        self._parts.append(part)
        self._spawn(part)
        deadline = time.monotonic() + _READY_WITHIN
        while not part.ready:
            kind, subject, value = self._next(deadline)
            if kind == "ready":
                subject.ready = value
            elif kind == "ended" and subject is part:
                self._parts.remove(part)
                raise UpError(f"{part.name} did not start: {last_line(part.log) or f'status {value}'}")
            elif kind == "ended":
                self._died(subject, value)
            elif kind == "late":
                raise UpError(f"{part.name} was not ready within {_READY_WITHIN:.0f} s; its log is {part.log}")
        return part.ready

    def watch(self) -> None:
        """For ever, or until a part dies again and again (UpError)."""
        while True:
            kind, part, value = self._events.get()
            if kind == "ended":
                self._died(part, value)

    def stop(self) -> None:
        """Ends the function app, which needs the others to finish its work, then the others."""
        app = [part for part in self._parts if part.name == "functions"]
        for group in (app, [part for part in self._parts if part not in app]):
            running = [(part.name, part.process) for part in group if part.process and part.process.poll() is None]
            for _, process in running:
                process.terminate()
            deadline = time.monotonic() + _END_WITHIN
            for name, process in running:
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    say(f"{name} did not end within {_END_WITHIN:.0f} s and is killed")
                    process.kill()
                    process.wait()
        self._parts.clear()

    def _next(self, deadline: float) -> tuple[str, Part, Any]:
        try:
            return self._events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return ("late", self._parts[-1], None)

    def _died(self, part: Part, status: int) -> None:
        now = time.monotonic()
        part.deaths = [moment for moment in part.deaths if now - moment < _WITHIN] + [now]
        if len(part.deaths) >= _DEATHS:
            raise UpError(f"{part.name} ended {_DEATHS} times within {_WITHIN:.0f} s: {last_line(part.log)}")
        say(f"{part.name} ended with status {status}; starting it again")
        time.sleep(0.2 * (len(part.deaths) - 1))
        self._spawn(part)

    def _spawn(self, part: Part) -> None:
        log = part.log.open("a" if part.process else "w")
        parent = os.getpid()
        part.process = subprocess.Popen(
            [sys.executable, "-m", "local", *part.arguments],
            cwd=_ROOT,
            env=dict(part.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; we end the others in order
            preexec_fn=lambda: die_with_parent(parent),
        )
        pids = {p.name: p.process.pid for p in self._parts if p.process}
        write_private(self._home / "pids.json", json.dumps(pids).encode())
        threading.Thread(target=self._read, args=(part, part.process, log), daemon=True).start()

    def _read(self, part: Part, process: subprocess.Popen[str], log: IO[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready "):
                self._events.put(("ready", part, json.loads(line.removeprefix("ready "))))
            else:
                log.write(line)
                log.flush()
        status = process.wait()
        log.close()
        self._events.put(("ended", part, status))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local up", description=__doc__)
    parser.add_argument(
        "--home", type=Path, default=Path(".local/stack"), help="where all state is (default .local/stack)"
    )
    parser.add_argument(
        "--ports", type=int, metavar="BASE", help="the first of seven ports; default: those of last time, or free ones"
    )
    parser.add_argument("--program", default=os.environ.get("LOYALTY_PROGRAM") or "MAIN", metavar="CODE")
    parser.add_argument(
        "--managed-identity", action="store_true", help="the function app signs in without a secret and without a key"
    )
    parser.add_argument("--no-provision", action="store_true", help="leave tables and steps as they are")
    parser.add_argument("--no-functions", action="store_true", help="everything but the function app")
    options = parser.parse_args(argv)
    os.umask(0o077)  # for the parts too: what they keep holds secrets and customers
    for number in _ENDING:
        signal.signal(number, _stop)
    home: Path = options.home.resolve()
    supervisor = Supervisor(home)
    try:
        with claimed(home):
            try:
                say_ready(_start(supervisor, home, options))
                supervisor.watch()
            finally:
                for number in _ENDING:
                    signal.signal(number, signal.SIG_IGN)  # once is enough: the parts get their time to end
                supervisor.stop()
    except _Stopped:
        return 0
    except (UpError, HomeError, OSError) as error:
        say(str(error))
        return 1
    return 0


def _start(supervisor: Supervisor, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    ports = _ports(home, options.ports)
    certificates = ensure_certificates(home)
    directory = Directory(home)
    client, shell, identity = directory.named(_CLIENT), directory.named(_SHELL), directory.named(IDENTITY, managed=True)
    dataverse_url = f"https://localhost:{ports['dataverse']}"
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    environment = _clean_environment()

    def part(name: str, *arguments: object, more: dict[str, str] | None = None) -> dict[str, Any]:
        words = [name, *(str(argument) for argument in arguments)]
        return supervisor.start(Part(name, words, environment | (more or {}), logs / f"{name}.log"))

    entra = part(
        "entra",
        *("--home", home, "--port", ports["entra"], "--identity-port", ports["identity"]),
        *("--resource", dataverse_url, "--resource", "https://servicebus.azure.net"),
    )
    bus = part(
        "servicebus",
        *("--config", _QUEUES, "--home", home / "servicebus"),
        *("--port", ports["servicebus"], "--admin-port", ports["servicebus_admin"]),
        *("--authority", f"{entra['authority']}/{directory.tenant_id}", "--ca-file", certificates.ca_file),
        *("--role", f"{identity.object_id}:Send,Listen"),
    )
    settings = {
        "DATAVERSE_URL": dataverse_url,
        "DATAVERSE_CA_FILE": str(certificates.ca_file),
        **_QUEUE_SETTINGS,
        "SERVICE_BUS_MANAGEMENT": bus["admin_url"],
        "LOYALTY_PROGRAM": options.program,
        "PYTHON_THREADPOOL_THREAD_COUNT": environment.get("PYTHON_THREADPOOL_THREAD_COUNT", "128"),
    }
    with_key = {
        "DATAVERSE_TENANT_ID": directory.tenant_id,
        "DATAVERSE_AUTHORITY": entra["authority"],
        "DATAVERSE_CLIENT_ID": client.client_id,
        "DATAVERSE_CLIENT_SECRET": client.secret,
        "ServiceBusConnection": bus["connection_string"],
    }
    with_identity = {
        "IDENTITY_ENDPOINT": entra["identity_endpoint"],
        "IDENTITY_HEADER": directory.identity_header,
        "ServiceBusConnection__fullyQualifiedNamespace": f"localhost:{ports['servicebus']}",
    }
    installing = settings | with_key
    settings |= with_identity if options.managed_identity else with_key
    dataverse = part(
        "dataverse",
        *("--home", home / "dataverse", "--tls-home", home, "--port", ports["dataverse"]),
        *("--authority", f"{entra['authority']}/{directory.tenant_id}", "--application", client.client_id),
        *("--application", shell.client_id, "--application", identity.client_id),
    )
    # Before our tables: it brings the forms of Sales, to which the installer adds our tab.
    dynamics = part(
        "dynamics",
        *("--home", home, "--port", ports["dynamics"], "--dataverse", dataverse_url),
        *("--authority", f"{entra['authority']}/{directory.tenant_id}", "--client-id", shell.client_id),
        more={"DYNAMICS_CLIENT_SECRET": shell.secret},
    )
    if not options.no_provision:
        _provision(environment | installing, options.program, logs / "deploy.log")
    endpoints = {
        "dataverse_url": dataverse_url,
        "authority": entra["authority"],
        "tenant_id": directory.tenant_id,
        "client_id": client.client_id,
        "client_secret": client.secret,
        "ca_file": str(certificates.ca_file),
        "servicebus_connection_string": bus["connection_string"],
        "dynamics_url": dynamics["dynamics_url"],
        "entra_admin_url": entra["admin_url"],
        "dataverse_admin_url": dataverse["admin_url"],
        "servicebus_admin_url": bus["admin_url"],
        "entra_counters_url": f"{entra['admin_url']}/counters",
        "dataverse_counters_url": f"{dataverse['admin_url']}/counters",
        "servicebus_counters_url": f"{bus['admin_url']}/counters",
        "settings": settings,
        "ports": ports,
    }
    if not options.no_functions:
        app = part("functions", "--app", _ROOT, "--home", home, "--port", ports["functions"], more=settings)
        keys = json.loads((home / "functions" / "keys.json").read_text())
        _until_connected(f"{app['admin_url']}/host/status", keys["master"])
        endpoints |= {
            "functions_url": app["functions_url"],
            "functions_admin_url": app["admin_url"],
            "functions_counters_url": f"{app['admin_url']}/counters",
            "function_key": keys["host"],
            "master_key": keys["master"],
        }
        write_private(home / "function-key.header", f"x-functions-key: {keys['host']}\n".encode())
    exports = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
    write_private(home / "settings.env", "".join(exports).encode())
    write_private(home / "endpoints.json", json.dumps(endpoints, indent=1).encode())
    return endpoints


def _provision(environment: Mapping[str, str], program: str, log: Path) -> None:
    """Our tables, keys and steps, put into the local Dataverse by the same installer that serves a real one."""
    command = [sys.executable, "-m", "dataverse_schema", "deploy", "--with-example", program]
    with log.open("w") as file:
        parent = os.getpid()
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            preexec_fn=lambda: die_with_parent(parent),
        )
    if done.returncode:
        raise UpError(f"the tables could not be installed: {last_line(log)}")


def _until_connected(status_url: str, key: str) -> None:
    """The host answers HTTP at once; its triggers listen a moment later."""
    request = urllib.request.Request(status_url, headers={"x-functions-key": key})
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        with urllib.request.urlopen(request, timeout=10) as answer:
            if json.load(answer)["service_bus_connected"]:
                return
        time.sleep(0.05)
    raise UpError("the function app did not reach the Service Bus")


def _ports(home: Path, base: int | None) -> dict[str, int]:
    """Fixed ports from `base`, else those of last time (Dataverse's rows hold some), else free ones."""
    endpoints = home / "endpoints.json"
    if base is not None:
        if not 1024 <= base <= 65_535 - len(_PORTS):
            raise UpError(f"--ports: {base} does not lie between 1024 and {65_535 - len(_PORTS)}")
        chosen = {name: base + number for number, name in enumerate(_PORTS)}
    else:
        chosen = dict(json.loads(endpoints.read_text())["ports"]) if endpoints.exists() else {}
        missing = [name for name in _PORTS if name not in chosen]
        with contextlib.ExitStack() as taken:
            sockets = [taken.enter_context(socket.socket()) for _ in missing]
            for free in sockets:
                free.bind(("127.0.0.1", 0))
            chosen |= {name: free.getsockname()[1] for name, free in zip(missing, sockets, strict=True)}
    for name, port in chosen.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise UpError(f"port {port} ({name}) is in use by another program: choose others by --ports") from None
    return chosen


def _clean_environment() -> dict[str, str]:
    """Ours without what would point the parts elsewhere: other settings, other certificates, proxies."""
    foreign = (
        "DATAVERSE_",
        "IDENTITY_",
        "ServiceBusConnection",
        "AzureWebJobsServiceBus",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_PROXY": "localhost,127.0.0.1"}


def last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").split("\n") if file.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def say(text: str) -> None:
    print(f"up: {text}", file=sys.stderr, flush=True)
