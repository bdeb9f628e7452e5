"""Sends to the queues. Threads that send at the same time share a request."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connector.bus.change import Change
from connector.tracing import carrier

if TYPE_CHECKING:
    from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSender

# The SDK sends a list as one message of at most 256 KB; ours are below 1 KB.
BATCH = 100


@dataclass(slots=True)
class _Waiting:
    messages: Sequence[ServiceBusMessage]
    sent: bool = False
    error: BaseException | None = field(default=None)


class QueueSender:
    """One queue. The SDK's senders are not thread-safe: whoever holds the lock sends for everybody who waits."""

    def __init__(self, client: ServiceBusClient, queue: str) -> None:
        self._client = client
        self._queue = queue
        self._sender: ServiceBusSender | None = None
        self._sending = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Waiting] = []

    def send(self, messages: Sequence[ServiceBusMessage]) -> None:
        """Returns when the queue has accepted the messages; raises the SDK's error otherwise."""
        if not messages:
            return
        mine = _Waiting(messages)
        with self._guard:
            self._waiting.append(mine)
        with self._sending:
            if not mine.sent:
                with self._guard:
                    batch, self._waiting = self._waiting, []
                self._send(batch)
        if mine.error:
            raise mine.error

    def _send(self, batch: list[_Waiting]) -> None:
        try:
            if self._sender is None:
                self._sender = self._client.get_queue_sender(self._queue)
            messages = [message for waiting in batch for message in waiting.messages]
            for start in range(0, len(messages), BATCH):
                self._sender.send_messages(list(messages[start : start + BATCH]))
        except Exception as error:
            for waiting in batch:
                waiting.error = error
        for waiting in batch:
            waiting.sent = True

    def close(self) -> None:
        with self._sending:
            if self._sender is not None:
                self._sender.close()
                self._sender = None


def change_message(change: Change, properties: Mapping[str | bytes, Any]) -> ServiceBusMessage:
    """A change as a message, in the session of its customer."""
    from azure.servicebus import ServiceBusMessage  # heavy: paid when the first message is sent

    return ServiceBusMessage(
        change.model_dump_json(exclude_defaults=True),
        session_id=change.session,
        message_id=change.id,
        correlation_id=change.correlation_id or None,
        subject=change.subject,
        content_type="application/json",
        application_properties=dict(properties) or None,
    )


class ChangeSender:
    """Sends changes, each into the session of its customer."""

    def __init__(self, client: ServiceBusClient, queue: str) -> None:
        self._queue = QueueSender(client, queue)

    def send(self, changes: Sequence[Change]) -> None:
        properties = carrier()
        self._queue.send([change_message(change, properties) for change in changes])

    def close(self) -> None:
        self._queue.close()
