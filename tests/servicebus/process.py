"""The broker as a process of its own, to be killed."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class BrokerProcess:
    """Runs `python -m local.servicebus`; `ready` is what it printed. Leaving kills it."""

    def __init__(self, config: Path, home: Path | None = None, *options: str) -> None:
        self._command = [sys.executable, "-m", "local.servicebus", "--config", str(config), *options]
        if home is not None:
            self._command += ["--home", str(home)]
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    @property
    def connection_string(self) -> str:
        return str(self.ready["connection_string"])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it listens."""
        command = [*self._command, "--port", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("ready "), line
        self.ready = json.loads(line.removeprefix("ready "))
        self._port = self.ready["port"]

    def kill(self) -> None:
        """SIGKILL: it gets no chance to do anything."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        self._process.communicate(timeout=10)
        return self._process.returncode

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.kill()
