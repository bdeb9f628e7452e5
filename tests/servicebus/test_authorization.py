"""Shared access signatures: which are good for what."""

from datetime import UTC, datetime, timedelta

import pytest

from local.servicebus.gateway.authorization import check_token
from local.servicebus.model.errors import Unauthorized
from tests.servicebus.sas import token

NOW = datetime(2026, 1, 1, tzinfo=UTC)
END = NOW + timedelta(hours=1)
KEYS = {"RootManageSharedAccessKey": "SAS_KEY_VALUE"}
AUDIENCE = "sb://localhost:5672/orders"


@pytest.mark.parametrize("resource", [AUDIENCE, "sb://localhost:5672/", "amqps://LOCALHOST/Orders/", "sb://localhost"])
def test_a_token_is_good_for_its_resource_and_what_is_below(resource: str) -> None:
    assert check_token(token(resource, END), AUDIENCE, KEYS, NOW) == END


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
        check_token(given, AUDIENCE, KEYS, NOW)
    assert "SAS_KEY_VALUE" not in str(caught.value)
