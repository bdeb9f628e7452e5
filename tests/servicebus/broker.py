"""Brokers and SDK clients for tests."""

import logging
from collections.abc import Iterator
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
