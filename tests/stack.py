"""Processes of the local stack for tests: one command, or everything at once."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "DATAVERSE_", "ServiceBus", "AzureWebJobs", "AzureFunctionsJobHost")


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what would change a process under test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return kept | {"PYTHONUNBUFFERED": "1"} | more


def wait_until(condition, timeout: float = 20, about: str = "the condition"):
    """Polls until `condition()` is true and returns its value; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{about} did not come true within {timeout} s"
        time.sleep(0.01)
    return value


def _hear_signals() -> None:
    """Whoever runs the tests in the background may have told them to ignore these, and children inherit it."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Child:
    """`python -m local ARGUMENTS` with its output at hand. Ends with the `with` block, by pid."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", *arguments],
            cwd=ROOT,
            env=environment or clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hear_signals,
        )
        self.lines: list[str] = []
        self._reader_done = threading.Event()
        self._fresh: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def ready(self, timeout: float = 30) -> dict:
        """The JSON of the line that says `ready`; AssertionError with the output if the process ends instead."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._fresh.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not ready within {timeout} s:\n{self.output}") from None
            assert line is not None, f"ended with status {self.process.wait()}:\n{self.output}"
            if line.startswith("ready "):
                return json.loads(line.removeprefix("ready "))

    def wait(self, timeout: float = 30) -> int:
        status = self.process.wait(timeout)
        self._reader_done.wait(5)
        return status

    def stop(self, timeout: float = 30) -> int:
        """Asks it to end and waits; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put(None)
        self._reader_done.set()


class Stack:
    """`python -m local up` in a home folder; `endpoints` is what it printed. Starts at once, ends with the `with` block."""

    def __init__(self, home: Path, *arguments: str, program: str = "MAIN", timeout: float = 120) -> None:
        self.home = home
        environment = clean_environment(LOYALTY_PROGRAM=program)
        self.child = Child("up", "--home", str(home), *arguments, environment=environment)
        try:
            self.endpoints = self.child.ready(timeout)
        except BaseException:
            self.child.__exit__()
            raise

    @property
    def pids(self) -> dict[str, int]:
        """The processes of the stack as they are now."""
        return json.loads((self.home / "pids.json").read_text())

    def log(self, part: str) -> str:
        return (self.home / "logs" / f"{part}.log").read_text()

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.__exit__()
