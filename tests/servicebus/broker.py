"""Brokers and SDK clients for tests."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from azure.servicebus import ServiceBusClient

from local.servicebus import config
from local.servicebus.broker import Broker

logging.getLogger("azure").setLevel(logging.CRITICAL)


def queues(**properties: dict[str, Any]) -> config.NamespaceConfig:
    """Queues by name, with the properties of the config file."""
    entries = [{"Name": name, "Properties": value} for name, value in properties.items()]
    return config.parse({"UserConfig": {"Namespaces": [{"Name": "ns", "Queues": entries}]}})


@contextmanager
def client(broker: Broker, **options: Any) -> Iterator[ServiceBusClient]:
    options.setdefault("retry_total", 0)
    with ServiceBusClient.from_connection_string(broker.connection_string, **options) as made:
        yield made


def together(*work: Callable[[], object]) -> None:
    """Do several things at once: the SDK mostly waits while it opens and closes."""
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(part) for part in work]:
            done.result()
