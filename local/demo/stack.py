"""The stack of the demo: `python -m local up` as a child that never outlives us."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import IO, Any

from local.demo.screen import Screen
from local.home import empty
from local.process import die_with_parent

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_END_WITHIN = 60.0  # `up` gives its parts their time


class StackError(Exception):
    """The local stack did not start, or has gone: one line."""


class Ended(BaseException):
    """A signal asks us to end; it is no error."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Stack:
    """A stack made anew for the time of a `with` block, which begins in the main thread.

    In the block a signal to end raises `Ended`, and a stack that ends by itself raises StackError, whatever we do.
    """

    def __init__(self, home: Path, screen: Screen) -> None:
        self._home = home
        self._screen = screen
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False

    def __enter__(self) -> "Stack":
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._asked_to_end)
        signal.signal(signal.SIGCHLD, self._child_ended)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping = True
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # once is enough
        if self._process is None or self._process.poll() is not None:
            return
        if kind is Ended:
            self._screen.say("ending the local stack; calls under way may finish ...")
        self._process.terminate()
        try:
            self._process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its parts end with it
            self._process.wait()

    def start(self) -> dict[str, Any]:
        """Empty the home folder and start; the endpoints. HomeError when the folder is not for us to empty."""
        empty(self._home)
        self._screen.say(f"starting the local stack in {self._home} ...")
        parent = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local", "up", "--home", str(self._home)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LOYALTY_PROGRAM": "CJ"},
            start_new_session=True,  # Ctrl-C is for us; we end it in order
            preexec_fn=lambda: die_with_parent(parent),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        threading.Thread(target=self._repeat, args=(self._process.stderr,), daemon=True).start()
        for line in self._process.stdout:
            if line.startswith("ready "):
                return dict(json.loads(line.removeprefix("ready ")))
        self._process.wait()
        raise self._gone()

    def stay(self) -> None:
        """For ever, or until `Ended` or StackError."""
        while True:
            signal.pause()

    def _repeat(self, lines: IO[str]) -> None:
        for line in lines:
            self._screen.say(line.rstrip("\n"))

    def _asked_to_end(self, number: int, _: FrameType | None) -> None:
        raise Ended(number)

    def _child_ended(self, *_: object) -> None:
        if self._process and self._process.poll() is not None and not self._stopping:
            raise self._gone()

    def _gone(self) -> StackError:
        assert self._process is not None
        return StackError(f"the local stack ended with status {self._process.returncode}; its logs: {self._home}/logs")
