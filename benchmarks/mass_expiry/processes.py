"""The processes of a run: the local stack, and the connector's workers. Each ends with us; only ours are ever ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.process import die_with_parent

ROOT = Path.cwd()
_FOREIGN = ("DATAVERSE_", "ServiceBus", "AzureWebJobs", "AzureFunctionsJobHost", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would change a process, and more."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)} | dict(more)


def spawned(arguments: list[str], more: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
    """`python -m ARGUMENTS`."""
    parent = os.getpid()
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment(more),
        text=True,
        preexec_fn=lambda: die_with_parent(parent),
        **{"stdin": subprocess.DEVNULL} | options,
    )


class Local:
    """`python -m local up` in a home folder; `endpoints` is what it printed. Ends with the `with` block."""

    def __init__(self, home: Path, *arguments: str, more: Mapping[str, str] | None = None) -> None:
        (home / "endpoints.json").unlink(missing_ok=True)  # a copy must not take the ports of its original
        self.home = home
        self._process = spawned(
            ["local", "up", "--home", str(home), *arguments], more or {}, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        line = next((line for line in self._process.stdout if line.startswith("ready ")), None)
        if line is None:
            raise RuntimeError(f"the local stack did not start in {home}: status {self._process.wait()}")
        self.endpoints: dict[str, Any] = json.loads(line.removeprefix("ready "))

    def pids(self) -> dict[str, int]:
        """Of the stack's parts."""
        return dict(json.loads((self.home / "pids.json").read_text()))

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Peak:
    """Peak memory (bytes) and processor time (seconds) of processes, as last looked at."""

    def __init__(self) -> None:
        self.memory: dict[int, int] = {}
        self.time: dict[int, float] = {}

    def look(self, *pids: int) -> None:
        """Does nothing for a process that has ended."""
        for pid in pids:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            line = next((line for line in status.splitlines() if line.startswith("VmHWM")), None)
            if line:
                self.memory[pid] = int(line.split()[1]) * 1024
            self.time[pid] = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
