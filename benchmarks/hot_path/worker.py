"""One implementation on Microsoft's Service Bus SDK: `python -m benchmarks.hot_path.worker floor --sessions 8`.

A thread a session, as the SDK's documentation shows: take the next session, work it off, leave it when nothing came for a
while. Settings come from the environment. Prints `ready`, then `done <change> <seconds since 1970>` when a change is durable.
"""

import argparse
import logging
import threading
from collections.abc import Callable

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient
from azure.servicebus.exceptions import OperationTimeoutError, ServiceBusError

from benchmarks.hot_path.protocol import done
from connector.bus import Change
from connector.settings import Settings, settings

IDLE = 0.3  # seconds, as in host.json
log = logging.getLogger(__name__)


def handler(name: str, found: Settings) -> Callable[[Change], None]:
    match name:
        case "floor":
            from benchmarks.hot_path.floor import Floor

            return Floor(found).handle
        case "naive":
            from benchmarks.hot_path.naive import Naive

            return Naive(found).handle
        case "naive_sdk":
            from benchmarks.hot_path.naive_sdk import NaiveSdk

            return NaiveSdk(found).handle
    raise ValueError(f"name: no implementation {name!r}")


def _serve(connection: str, queue: str, handle: Callable[[Change], None]) -> None:
    with ServiceBusClient.from_connection_string(connection) as client:
        while True:
            try:
                with client.get_queue_receiver(
                    queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=IDLE
                ) as receiver:
                    for message in receiver:
                        change = Change.parse(b"".join(message.body))
                        try:
                            handle(change)
                        except Exception as error:
                            log.warning("%s: %s", type(error).__name__, error)
                            receiver.abandon_message(message)
                        else:
                            done(change)
                            receiver.complete_message(message)
            except OperationTimeoutError:
                continue  # no session had a message
            except ServiceBusError as error:
                log.warning("%s: %s", type(error).__name__, error)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path.worker", description=__doc__)
    parser.add_argument("name", choices=("floor", "naive", "naive_sdk"))
    parser.add_argument("--sessions", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    found = settings()
    handle = handler(options.name, found)
    for _ in range(options.sessions):
        threading.Thread(
            target=_serve, args=(found.service_bus_connection, found.changes_queue, handle), daemon=True
        ).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
