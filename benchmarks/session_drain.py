"""Empty a session queue as fast as one connection can: proton's engine, many links, a session at a time on each."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote_plus

from proton import Message, symbol
from proton.handlers import MessagingHandler
from proton.reactor import Container, Filter

LINKS = 64


def drain(
    connection_string: str, queue: str, sessions: int, each: int, tenth: Callable[[], None] = lambda: None
) -> None:
    """Accept `sessions` sessions, receive and complete `each` messages of each; `tenth` is called ten times on the way."""
    if sessions:
        Container(_Drain(connection_string, queue, sessions, each, tenth)).run()


class _AnySession(Filter):
    def __init__(self) -> None:
        super().__init__({symbol("com.microsoft:session-filter"): cast(Any, None)})


class _Drain(MessagingHandler):
    def __init__(self, connection_string: str, queue: str, sessions: int, each: int, tenth: Callable[[], None]) -> None:
        super().__init__(prefetch=0, auto_accept=False)
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        self._parts, self._queue, self._each, self._tenth = parts, queue, each, tenth
        self._host = parts["Endpoint"].removeprefix("sb://")
        self._to_accept, self._to_finish, self._total = sessions, sessions, sessions
        self._got: dict[str, int] = {}
        self._names = 0

    def on_start(self, event: Any) -> None:
        self._connection = event.container.connect(f"amqp://{self._host}", reconnect=False, sasl_enabled=True)
        self._container = event.container
        self._answers = event.container.create_receiver(self._connection, "$cbs")
        self._answers.flow(1)
        self._requests = event.container.create_sender(self._connection, "$cbs")

    def on_sendable(self, event: Any) -> None:
        if event.sender == self._requests and self._names == 0:
            self._names = 1
            audience = f"sb://{self._host}/{self._queue}"
            properties = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": audience}
            self._requests.send(Message(id=1, reply_to="$cbs", properties=properties, body=self._token(audience)))

    def _token(self, audience: str) -> str:
        resource, end = quote_plus(audience), str(int(time.time()) + 3600)
        digest = hmac.new(
            self._parts["SharedAccessKey"].encode(), f"{resource}\n{end}".encode(), hashlib.sha256
        ).digest()
        signature = quote_plus(base64.b64encode(digest))
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={end}&skn={self._parts['SharedAccessKeyName']}"

    def on_message(self, event: Any) -> None:
        link = event.receiver
        if link == self._answers:
            for _ in range(min(LINKS, self._to_accept)):
                self._accept()
            return
        self.accept(event.delivery)
        self._got[link.name] += 1
        if self._got[link.name] == self._each:
            link.close()

    def _accept(self) -> None:
        self._to_accept -= 1
        self._names += 1
        name = f"session-{self._names}"
        self._got[name] = 0
        link = self._container.create_receiver(self._connection, self._queue, name=name, options=_AnySession())
        link.flow(self._each)

    def on_link_closed(self, event: Any) -> None:
        del self._got[event.link.name]
        event.link.free()
        self._to_finish -= 1
        done = self._total - self._to_finish
        if done * 10 // self._total > (done - 1) * 10 // self._total:
            self._tenth()
        if self._to_accept:
            self._accept()
        elif not self._to_finish:
            self._connection.close()
