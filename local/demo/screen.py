"""What a person sees while the demo is at work."""

import contextlib
import shutil
import sys
import threading
import time

_NOW_AND_THEN = 30.0


class Screen:
    """Lines that stay, and progress: on a terminal one line that changes in place, elsewhere a line every 30 s.

    Threads may share it. A terminal that has gone away is no reason to stop working.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._in_place = self._stream.isatty()
        self._lock = threading.Lock()
        self._drawn = False
        self._shown = time.monotonic()

    def say(self, text: str) -> None:
        with self._lock:
            self._wipe()
            self._write(text + "\n")

    def progress(self, text: str) -> None:
        with self._lock:
            if self._in_place:
                self._write(f"\r{self._filled(text)}")
                self._drawn = True
            elif time.monotonic() - self._shown >= _NOW_AND_THEN:
                self._write(text + "\n")
                self._shown = time.monotonic()

    def done(self) -> None:
        """Progress is over: its line is wiped."""
        with self._lock:
            self._wipe()

    def _wipe(self) -> None:
        if self._drawn:
            self._write(f"\r{self._filled('')}\r")
        self._drawn = False

    def _filled(self, text: str) -> str:
        width = shutil.get_terminal_size().columns - 1
        return f"{text[:width]:<{width}}"

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
