"""What every process of the stack does alike: say that it is ready, wait for the signal to end, die with its parent."""

import ctypes
import json
import os
import signal
import threading
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1


def stop_event() -> threading.Event:
    """An event that SIGTERM or Ctrl-C sets. Call it in the main thread, before `say_ready`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def say_ready(endpoints: Mapping[str, object]) -> None:
    print("ready " + json.dumps(endpoints), flush=True)


def die_with_parent(parent: int) -> None:
    """For the child between fork and exec: the kernel kills it when the thread that forked it ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)
