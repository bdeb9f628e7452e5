"""Shared access signatures: which are good for what."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from proton import ConnectionException, Message
from proton.utils import BlockingConnection

from local.servicebus.amqp import performatives as p
from local.servicebus.broker import Broker
from local.servicebus.gateway.authorization import Policy, check_token
from local.servicebus.model.errors import Unauthorized
from tests.servicebus.broker import queues
from tests.servicebus.sas import token
from tests.servicebus.wire import Wire

NOW = datetime(2026, 1, 1, tzinfo=UTC)
END = NOW + timedelta(hours=1)
POLICIES = {"RootManageSharedAccessKey": Policy("SAS_KEY_VALUE"), "reader": Policy("k", frozenset({"Listen"}))}
AUDIENCE = "sb://localhost:5672/orders"


@pytest.mark.parametrize("resource", [AUDIENCE, "sb://localhost:5672/", "amqps://LOCALHOST/Orders/", "sb://localhost"])
def test_a_token_is_good_for_its_resource_and_what_is_below(resource: str) -> None:
    assert check_token(token(resource, END), AUDIENCE, POLICIES, NOW).end == END


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (token(AUDIENCE, END, key="guess"), "InvalidSignature"),
        (token(AUDIENCE, END, name="Other"), "InvalidSignature"),
        (token(AUDIENCE, END).replace("orders", "others"), "InvalidSignature"),
        (token(AUDIENCE, NOW), "ExpiredToken"),
        (token("sb://localhost:5672/order", END), "InvalidAudience"),
        (token("sb://localhost:5672/orders/sub", END), "InvalidAudience"),
        ("SharedAccessSignature sr=x", "MalformedToken"),
        ("SharedAccessSignature sr=x&sig=y&se=soon&skn=z", "MalformedToken"),
        ("Bearer x", "MalformedToken"),
        (None, "MalformedToken"),
        (b"SharedAccessSignature", "MalformedToken"),
    ],
)
def test_others_are_refused_with_the_reason_and_without_the_key(given: object, reason: str) -> None:
    with pytest.raises(Unauthorized, match=reason) as caught:
        check_token(given, AUDIENCE, POLICIES, NOW)
    assert "SAS_KEY_VALUE" not in str(caught.value)


def test_a_token_has_the_rights_of_its_policy() -> None:
    assert check_token(token(AUDIENCE, END, "reader", "k"), AUDIENCE, POLICIES, NOW).rights == {"Listen"}


@pytest.mark.parametrize(
    ("right", "receiver", "allowed"),
    [
        ("Listen", True, True),
        ("Listen", False, False),
        ("Send", True, False),
        ("Send", False, True),
        ("Manage", True, True),
    ],
)
def test_a_link_needs_its_right(right: str, receiver: bool, allowed: bool) -> None:
    policies = {"RootManageSharedAccessKey": Policy("SAS_KEY_VALUE", frozenset({right}))}
    with Broker(queues(q={}), policies=policies) as broker, Wire(broker.port).open() as wire:
        wire.authorize(broker.port)
        answer = wire.attach(2, receiver=receiver, address="q")
        assert (answer[5] is not None) is allowed
        if not allowed:
            assert wire.hear_until(p.DETACH)[2].value[0] == "amqp:unauthorized-access"


@pytest.mark.parametrize(("key", "opens"), [("SAS_KEY_VALUE", True), ("guess", False)])
def test_proton_with_name_and_key(key: str, opens: bool) -> None:
    with Broker(queues(q={})) as broker:
        url = f"amqp://RootManageSharedAccessKey:{key}@localhost:{broker.port}"
        with nullcontext() if opens else pytest.raises(ConnectionException):
            connection = BlockingConnection(url, timeout=5, allow_insecure_mechs=True)
            connection.create_sender("q").send(Message(body="hello"))
            receiver = connection.create_receiver("q", credit=1)
            message = receiver.receive(timeout=5)
            assert (message.body, message.delivery_count) == ("hello", 0)
            receiver.accept()
            connection.close()
            assert broker.statistics()["queues"]["q"]["completed"] == 1
