"""Request and answer over a pair of links, as `$cbs` and `$management` use them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from local.servicebus.amqp import performatives as p
from local.servicebus.amqp.link import Inbound, Outbound, address
from local.servicebus.amqp.message import Request, encode_answer, parse_request
from local.servicebus.amqp.performatives import AmqpError
from local.servicebus.amqp.session import Session
from local.servicebus.amqp.types import DecodeError

type Answer = tuple[dict[str, Any], Any]
"""Application properties and body of an answer."""

type Handler = Callable[["RequestLink", Request], Answer]

_ACCEPTED = p.outcome(p.ACCEPTED)


class RequestLink(Inbound):
    """The client sends requests to a node; each is answered on the same connection."""

    def __init__(
        self,
        session: Session,
        attach: p.Attach,
        node: str,
        handler: Handler,
        find: Callable[[RequestLink, Request], AnswerLink | None],
    ) -> None:
        super().__init__(session, attach)
        self.node = node
        self._handler = handler
        self._find = find

    def received(self, message: bytes, message_format: int) -> bytes:
        try:
            request = parse_request(message)
        except DecodeError as error:
            raise AmqpError("amqp:decode-error", f"The request is not valid AMQP: {error}") from error
        answers = self._find(self, request)
        if answers is None:
            raise AmqpError("amqp:not-found", f"No receiver is attached for answers of {self.node}.")
        properties, body = self._handler(self, request)
        answers.post(encode_answer(request, properties, body))
        return _ACCEPTED


class AnswerLink(Outbound):
    """Answers wait here for the client's credit."""

    def __init__(self, session: Session, attach: p.Attach, node: str, released: Callable[[AnswerLink], None]) -> None:
        super().__init__(session, attach)
        self.node = node
        self.reply_to = address(attach.target)
        self.sends_settled = True  # nothing is done with the client's settlement of an answer
        self._released = released
        self._waiting: deque[bytes] = deque()
        self._posted = 0

    def post(self, answer: bytes) -> None:
        self._waiting.append(answer)
        self.credited()

    def credited(self) -> None:
        while self._waiting and self.credit:
            self._posted += 1
            self.send(self._posted.to_bytes(4), self._waiting.popleft())

    def settled(self, number: int, tag: bytes, state: Any) -> bytes:
        return _ACCEPTED

    def released(self) -> None:
        super().released()
        self._waiting.clear()
        self._released(self)
