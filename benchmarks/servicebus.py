"""How fast the local Service Bus is, and whether it or its clients are the busier side.

    python -m benchmarks.servicebus [--only send plain sessions scale]

The broker runs in a process of its own with a durable home. `send`, `plain` and `sessions` use the azure-servicebus SDK on
both sides; `scale` loads 100,000 messages in 10,000 sessions and drains them over one connection of 64 links (proton).
CPU is that of the broker's process and of this one; share is the broker's part of their sum. On two idle cores a share
below 50 % means that the client is the bottleneck.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage

from benchmarks.session_drain import drain

BODY = b"x" * 1_000
QUEUES = {"plain": {}, "sessions": {"RequiresSession": True}}
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Broker:
    pid: int
    connection_string: str

    def cpu(self) -> float:
        """Seconds of CPU its process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def client(self) -> ServiceBusClient:
        return ServiceBusClient.from_connection_string(self.connection_string)


@contextmanager
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        entries = [{"Name": name, "Properties": properties} for name, properties in QUEUES.items()]
        config.write_text(json.dumps({"UserConfig": {"Namespaces": [{"Name": "bench", "Queues": entries}]}}))
        command = [sys.executable, "-m", "local.servicebus", "--port", "0", "--config", str(config), "--home", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline().removeprefix("ready "))
            yield Broker(process.pid, ready["connection_string"])
        finally:
            process.terminate()
            process.wait()


def measure(target: Broker, what: str, count: int, work: Callable[[], Any], unit: str = "messages") -> None:
    """Run and print: units a second, milliseconds of CPU per unit on either side, the broker's share."""
    wall, theirs, ours = time.perf_counter(), target.cpu(), time.process_time()
    work()
    wall, theirs, ours = time.perf_counter() - wall, target.cpu() - theirs, time.process_time() - ours
    share = theirs / (theirs + ours)
    print(
        f"{what:<44}{count / wall:>9,.0f} {unit}/s   broker {1000 * theirs / count:7.3f} ms   "
        f"client {1000 * ours / count:7.3f} ms   share {share:4.0%}",
        flush=True,
    )


def send(target: Broker) -> None:
    with target.client() as client, client.get_queue_sender("plain") as sender:
        sender.send_messages(ServiceBusMessage(BODY))

        def singly() -> None:
            for _ in range(2_000):
                sender.send_messages(ServiceBusMessage(BODY))

        def in_batches() -> None:
            for _ in range(100):
                sender.send_messages([ServiceBusMessage(BODY) for _ in range(100)])

        measure(target, "send one by one", 2_000, singly)
        measure(target, "send in batches of 100", 10_000, in_batches)


def plain(target: Broker) -> None:
    count = 5_000
    with target.client() as client:
        with client.get_queue_sender("plain") as sender:
            for _ in range(count // 100):
                sender.send_messages([ServiceBusMessage(BODY) for _ in range(100)])
        with client.get_queue_receiver("plain") as receiver:

            def receive() -> None:
                done = 0
                while done < count:
                    for message in receiver.receive_messages(100, max_wait_time=5):
                        receiver.complete_message(message)
                        done += 1

            measure(target, "receive up to 100, complete each", count, receive)


def sessions(target: Broker) -> None:
    for receivers, count in ((1, 30), (8, 200), (32, 1_000)):
        _fill_sessions(target, 1_000, 1)
        measure(
            target,
            f"accept + receive + complete, {receivers} receiver{'s' if receivers > 1 else ''}",
            count,
            lambda receivers=receivers, count=count: _work_sessions(target, receivers, count),  # type: ignore[misc]
            "sessions",
        )
        drain(target.connection_string, "sessions", 1_000 - count, 1)


def _fill_sessions(target: Broker, count: int, each: int) -> None:
    with target.client() as client, client.get_queue_sender("sessions") as sender:
        names = [f"customer-{number}" for _ in range(each) for number in range(count)]
        for start in range(0, len(names), 100):
            sender.send_messages([ServiceBusMessage(BODY, session_id=name) for name in names[start : start + 100]])


def _work_sessions(target: Broker, receivers: int, count: int) -> None:
    left = list(range(count))

    def work() -> None:
        with target.client() as client:
            while left:
                left.pop()
                with client.get_queue_receiver("sessions", session_id=NEXT_AVAILABLE_SESSION) as receiver:
                    (message,) = receiver.receive_messages(1, max_wait_time=10)
                    receiver.complete_message(message)

    threads = [threading.Thread(target=work) for _ in range(receivers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def scale(target: Broker) -> None:
    """The broker's CPU per message in each tenth of loading and draining: it must not grow."""
    count, each = 10_000, 10
    marks = [target.cpu()]
    began = time.perf_counter()
    for _ in range(each):
        _fill_sessions(target, count, 1)
        marks.append(target.cpu())
    _print_tenths(f"load {count * each:,} in {count:,} sessions", marks, count * each, time.perf_counter() - began)
    marks = [target.cpu()]
    began = time.perf_counter()
    drain(target.connection_string, "sessions", count, each, lambda: marks.append(target.cpu()))
    _print_tenths("drain them over 64 links", marks, count * each, time.perf_counter() - began)


def _print_tenths(what: str, marks: list[float], messages: int, wall: float) -> None:
    costs = [1000 * (after - before) / (messages / 10) for before, after in itertools.pairwise(marks)]
    print(
        f"{what:<44}{messages / wall:>9,.0f} messages/s   broker ms each, by tenth: {' '.join(f'{c:.3f}' for c in costs)}"
    )


PARTS = {"send": send, "plain": plain, "sessions": sessions, "scale": scale}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    for name in options.only:
        with broker() as target:
            PARTS[name](target)


if __name__ == "__main__":
    main()
