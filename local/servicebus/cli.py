"""`python -m local servicebus`: the broker as a process."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sqlite3
import sys
import threading
from pathlib import Path

from local.servicebus import admin, config
from local.servicebus.broker import DEFAULT_POLICIES, Broker
from local.servicebus.faults import Dials, dials_from
from local.servicebus.gateway.authorization import RIGHTS, Authority, Policy


def main(argv: list[str]) -> int:
    """Run until SIGTERM or Ctrl-C. Prints `ready {json}` when it listens. Returns the exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        entities = config.read(options.config)
        dials = _dials(options)
        policies = DEFAULT_POLICIES | dict(options.policy or [])
        authority = None
        if options.authority:
            authority = Authority.read(options.authority, options.ca_file, dict(options.role or []))
        with Broker(
            entities, home=options.home, port=options.port, policies=policies, dials=dials, authority=authority
        ) as broker:
            endpoint = admin.serve(broker, options.admin_port)
            ready = {
                "port": broker.port,
                "admin_port": endpoint.server_port,
                "admin_url": f"http://127.0.0.1:{endpoint.server_port}",
                "connection_string": broker.connection_string,
            }
            print("ready", json.dumps(ready), flush=True)
            stop.wait()
            endpoint.shutdown()
            endpoint.server_close()
    except (config.ConfigError, ValueError, OSError, sqlite3.Error) as error:
        print(f"servicebus: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local servicebus", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="entities, in the official emulator's config.json form"
    )
    parser.add_argument("--port", type=int, default=5672, help="AMQP port, 0 for any free one")
    parser.add_argument("--admin-port", type=int, default=0, help="port of the admin endpoint, 0 for any free one")
    parser.add_argument("--home", type=Path, help="folder to keep messages in; without it they are kept in memory only")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--policy",
        type=_policy,
        action="append",
        metavar="NAME:KEY[:RIGHT,...]",
        help="a shared access policy beside the default one; rights: Listen, Send, Manage (all)",
    )
    parser.add_argument("--authority", metavar="URL", help="an Entra tenant whose tokens count: https://host/tenant")
    parser.add_argument("--ca-file", metavar="FILE", help="the certificate authority to trust for --authority")
    parser.add_argument(
        "--role",
        type=_role,
        action="append",
        metavar="OBJECT_ID[:RIGHT,...]",
        help="what an identity of the tenant may: Listen (Data Receiver), Send (Data Sender), Manage (Data Owner: all)",
    )
    faults = parser.add_argument_group("faults")
    faults.add_argument("--drop-connection", type=float, default=0.0, metavar="RATE")
    faults.add_argument("--lose-session-lock", type=float, default=0.0, metavar="RATE")
    faults.add_argument("--server-busy", type=float, default=0.0, metavar="RATE")
    faults.add_argument("--delay-ms", type=float, default=0.0)
    faults.add_argument("--fault-seed", type=int, default=1)
    return parser


def _policy(text: str) -> tuple[str, Policy]:
    name, _, rest = text.partition(":")
    key, _, listed = rest.partition(":")
    if not name or not key:
        raise argparse.ArgumentTypeError("NAME:KEY[:RIGHT,...] is expected")
    return name, Policy(key, _rights(listed))


def _role(text: str) -> tuple[str, frozenset[str]]:
    object_id, _, listed = text.partition(":")
    return object_id, _rights(listed)


def _rights(listed: str) -> frozenset[str]:
    rights = frozenset(listed.split(",")) if listed else RIGHTS
    if not rights <= RIGHTS:
        raise argparse.ArgumentTypeError("rights are Listen, Send, Manage")
    return rights


def _dials(options: argparse.Namespace) -> Dials:
    names = ("drop_connection", "lose_session_lock", "server_busy", "delay_ms")
    return dials_from({name: getattr(options, name) for name in names} | {"seed": options.fault_seed})
