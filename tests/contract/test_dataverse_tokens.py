"""Tokens: what MSAL is told by the login service, and what we make of it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

import pytest
import requests
import responses

from connector.dataverse import ClientSecretTokens, Terminal, Transient, Unauthorized
from tests.stopwatch import Stopwatch

TENANT = "72f90000-0000-4000-8000-0000000000aa"
CLIENT = "9d1c0000-0000-4000-8000-0000000000bb"
SECRET = "very secret indeed"
AUTHORITY = f"https://login.microsoftonline.com/{TENANT}"
TOKEN_URL = f"{AUTHORITY}/oauth2/v2.0/token"
ENVIRONMENT = "https://org.crm.dynamics.com"


@pytest.fixture
def entra() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get(
            f"{AUTHORITY}/v2.0/.well-known/openid-configuration",
            json={
                "issuer": f"{AUTHORITY}/v2.0",
                "authorization_endpoint": f"{AUTHORITY}/oauth2/v2.0/authorize",
                "token_endpoint": TOKEN_URL,
            },
        )
        yield mock


def grant(mock: responses.RequestsMock, token: str, lifetime: int = 3599) -> None:
    mock.post(TOKEN_URL, json={"token_type": "Bearer", "expires_in": lifetime, "access_token": token})


def provider(
    clock: Stopwatch | None = None, authority: str = "https://login.microsoftonline.com"
) -> ClientSecretTokens:
    return ClientSecretTokens(TENANT, CLIENT, SECRET, f"{ENVIRONMENT}/", authority, clock=clock or Stopwatch(1000.0))


@pytest.mark.parametrize("authority", ["https://login.microsoftonline.com", f"{AUTHORITY}/"])
def test_one_token_for_the_environment_serves_until_it_is_old(entra: responses.RequestsMock, authority: str) -> None:
    grant(entra, "first")
    tokens = provider(authority=authority)
    assert [tokens.token() for _ in range(3)] == ["first"] * 3
    sent = [call.request for call in entra.calls if call.request.method == "POST"]
    assert len(sent) == 1
    form = parse_qs(str(sent[0].body))
    assert form["scope"] == [f"{ENVIRONMENT}/.default"]
    assert form["grant_type"] == ["client_credentials"]
    assert form["client_id"] == [CLIENT] and form["client_secret"] == [SECRET]


def test_a_token_is_renewed_before_it_expires_and_the_old_one_bridges_an_outage(entra: responses.RequestsMock) -> None:
    clock = Stopwatch(1000.0)
    grant(entra, "first", lifetime=280)  # so short that MSAL keeps no copy
    tokens = provider(clock)
    assert tokens.token() == "first"
    clock.now += 139
    assert tokens.token() == "first"
    clock.now += 2
    entra.replace(responses.POST, TOKEN_URL, status=503)
    assert tokens.token() == "first"
    entra.replace(responses.POST, TOKEN_URL, json={"token_type": "Bearer", "expires_in": 280, "access_token": "second"})
    assert tokens.token() == "first"  # asks again only after ten seconds
    clock.now += 11
    assert tokens.token() == "second"
    entra.replace(responses.POST, TOKEN_URL, status=503)
    clock.now += 281
    with pytest.raises(Transient):
        tokens.token()


def test_a_rejected_token_is_replaced_once_however_many_threads_report_it(entra: responses.RequestsMock) -> None:
    grant(entra, "first")
    grant(entra, "second")
    grant(entra, "third")
    tokens = provider()
    assert tokens.token() == "first"
    start = threading.Barrier(8)

    def report() -> str:
        start.wait(10)
        return tokens.renew("first")

    with ThreadPoolExecutor(8) as pool:
        assert {future.result() for future in [pool.submit(report) for _ in range(8)]} == {"second"}
    assert tokens.token() == "second"


def test_a_refusal_is_final_and_says_why_without_the_secret(entra: responses.RequestsMock) -> None:
    answer = {
        "error": "invalid_client",
        "error_description": "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1",
        "error_codes": [7000215],
    }
    entra.post(TOKEN_URL, status=401, json=answer)
    tokens = provider()
    with pytest.raises(Unauthorized, match="AADSTS7000215: Invalid client secret provided") as caught:
        tokens.token()
    assert SECRET not in str(caught.value) + repr(tokens) + repr(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 503},
        {"body": requests.ConnectionError(f"connection to {AUTHORITY} lost with client_secret={SECRET}")},
        {"status": 400, "json": {"error": "temporarily_unavailable", "error_description": "busy"}},
    ],
)
def test_an_unreachable_login_service_is_worth_repeating(
    entra: responses.RequestsMock, answer: dict[str, object]
) -> None:
    entra.post(TOKEN_URL, **answer)
    with pytest.raises(Transient) as caught:
        provider().token()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unreachable_login_service_is_asked_again(entra: responses.RequestsMock) -> None:
    entra.post(TOKEN_URL, status=503)
    grant(entra, "first")
    tokens = provider()
    with pytest.raises(Transient, match="no token from https://login"):
        tokens.token()
    assert tokens.token() == "first"


def test_a_stranger_s_certificate_is_final(entra: responses.RequestsMock) -> None:
    entra.post(TOKEN_URL, body=requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    with pytest.raises(Terminal, match="not trusted"):
        provider().token()


def test_an_unknown_tenant_is_final() -> None:
    with responses.RequestsMock() as mock, pytest.raises(Unauthorized, match=f"{TENANT} is not a tenant"):
        mock.get(f"{AUTHORITY}/v2.0/.well-known/openid-configuration", status=400, json={"error": "invalid_tenant"})
        provider().token()


def test_the_authority_is_https() -> None:
    with pytest.raises(ValueError, match="authority"):
        provider(authority="http://login.microsoftonline.com")
