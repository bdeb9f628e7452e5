"""`python -m local functions`: runs a function app of the Python v2 model as the Functions host does."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from local.functions.errors import StartError
from local.functions.host import Host
from local.functions.options import read_options
from local.process import say_ready

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}
_RESTART = 75  # EX_TEMPFAIL: a function ran past its time-out, whoever watches over us should start us again


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local functions", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), metavar="DIR", help="the folder of host.json")
    parser.add_argument("--home", type=Path, default=Path(".local"), help="where keys and timer status are kept")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help='app settings in the form of local.settings.json ({"Values": {...}}); the environment outranks it',
    )
    parser.add_argument("--grace", type=float, default=10, metavar="SECONDS", help="for running functions at the end")
    options = parser.parse_args(argv)
    try:
        if options.settings:
            for name, value in _read_settings(options.settings).items():
                os.environ.setdefault(name, value)
        host_options = read_options(options.app.resolve(), os.environ, os.cpu_count() or 1)
        logging.basicConfig(
            level=_LEVELS.get(host_options.log_level.lower(), logging.INFO),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        for chatty in ("azure", "uamqp", "urllib3"):  # the worker logs two lines a call, the SDK each of its links
            logging.getLogger(chatty).setLevel(logging.WARNING)
        host = Host(options.app.resolve(), options.home, host_options, os.environ, options.port)
        return asyncio.run(_run(host, options.grace))
    except StartError as error:
        print(f"functions: {error}", file=sys.stderr)
        return 1


async def _run(host: Host, grace: float) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await host.start()
    say_ready({"functions_url": host.url, "admin_url": f"{host.url}/admin", "functions": host.describe()})
    ends = {asyncio.create_task(stop.wait()), asyncio.create_task(host.invocations.timed_out.wait())}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    overdue = host.invocations.timed_out.is_set()
    if not await host.stop(0 if overdue else grace):
        # threads cannot be cancelled: what they hold goes back when its lock or its link ends, as after a crash
        logging.shutdown()
        os._exit(_RESTART if overdue else 0)
    return _RESTART if overdue else 0


def _read_settings(file: Path) -> dict[str, str]:
    try:
        values = json.loads(file.read_text())["Values"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartError(f"{file}: not a settings file with Values: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise StartError(f"{file}: Values must be an object of strings")
    return values
