"""The three ways to sign in, each against an Entra tenant that checks what the real one checks."""

import base64
import datetime
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusAuthenticationError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from connector.bus.client import service_bus
from connector.dataverse import CertificateTokens, ManagedIdentityTokens, Terminal, Transient, Unauthorized
from connector.settings import Settings, SettingsError, read_settings
from connector.sign_in import dataverse_tokens
from local.entra.app import EntraApp
from local.entra.directory import Directory
from local.entra.identities import PATH, IdentityEndpoint
from local.servicebus.broker import Broker
from local.servicebus.gateway.authorization import RIGHTS, Authority
from local.tls import ensure_certificates
from local.web import WebServer
from tests.servicebus.broker import queues

ENVIRONMENT = "https://contoso.crm4.dynamics.com"
BUS = "https://servicebus.azure.net"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BUS_KEY = "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=the-key="


def certificate() -> tuple[str, str, rsa.RSAPrivateKey]:
    """A self-signed one, as PEM text, with its key, as PEM text and as such."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loyalty-connector")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()
    return made.public_bytes(pem).decode(), secret, key


CERTIFICATE, KEY, SIGNING_KEY = certificate()


class Tenant:
    def __init__(self, home: Path) -> None:
        self.directory = Directory(home)
        certificates = ensure_certificates(home)
        self.ca_file = str(certificates.ca_file)
        self.server = WebServer(lambda *request: self.app(*request), certificates=certificates)
        self.app = EntraApp(self.directory, self.server.url, [ENVIRONMENT, BUS])
        self.own = self.directory.named("app", managed=True)
        self.client = self.directory.named("registration")
        self.directory.add_certificate(self.client.client_id, CERTIFICATE)
        self.identities = WebServer(IdentityEndpoint(self.app, self.own))
        self.identity_endpoint = f"http://127.0.0.1:{self.identities.port}{PATH}"

    def settings(self, **more: str) -> Settings:
        found = {
            "DATAVERSE_URL": ENVIRONMENT,
            "DATAVERSE_TENANT_ID": self.directory.tenant_id,
            "DATAVERSE_AUTHORITY": self.server.url,
            "DATAVERSE_CA_FILE": self.ca_file,
            "DATAVERSE_CLIENT_ID": self.client.client_id,
            "ServiceBusConnection": BUS_KEY,
        }
        return read_settings(found | more)

    def assertion(self, key: rsa.RSAPrivateKey = SIGNING_KEY, header: dict[str, str] | None = None, **more: Any) -> str:
        """A right one, with changes; None takes a claim away."""
        now = int(datetime.datetime.now(datetime.UTC).timestamp())
        claims = {
            "aud": f"{self.server.url}/{self.directory.tenant_id}/oauth2/v2.0/token",
            "iss": self.client.client_id,
            "sub": self.client.client_id,
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "exp": now + 600,
        } | more
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key, "PS256", thumbprint() if header is None else header)

    def ask(self, assertion: str) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client.client_id,
            "client_assertion_type": ASSERTION,
            "client_assertion": assertion,
            "scope": f"{ENVIRONMENT}/.default",
        }
        url = f"{self.server.url}/{self.directory.tenant_id}/oauth2/v2.0/token"
        return requests.post(url, data=form, verify=self.ca_file, timeout=5)


def thumbprint() -> dict[str, str]:
    digest = x509.load_pem_x509_certificate(CERTIFICATE.encode()).fingerprint(hashes.SHA256())
    return {"x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    made = Tenant(tmp_path_factory.mktemp("entra"))
    with made.server, made.identities:
        yield made


@pytest.fixture
def platform(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the platform tells an app that has an identity."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = {"IDENTITY_ENDPOINT": tenant.identity_endpoint, "IDENTITY_HEADER": tenant.directory.identity_header}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_a_client_secret(tenant: Tenant) -> None:
    found = claims(dataverse_tokens(tenant.settings(DATAVERSE_CLIENT_SECRET=tenant.client.secret)).token())
    assert (found["aud"], found["appid"], found["appidacr"]) == (ENVIRONMENT, tenant.client.client_id, "1")


@pytest.mark.parametrize("form", ["file", "text", "one line"])
def test_a_certificate(tenant: Tenant, tmp_path: Path, form: str) -> None:
    pem = KEY + CERTIFICATE
    file = tmp_path / "connector.pem"
    file.write_text(pem)
    given = {"file": str(file), "text": pem, "one line": pem.replace("\n", "\\n")}[form]
    settings = tenant.settings(DATAVERSE_CLIENT_CERTIFICATE=given)
    found = claims(dataverse_tokens(settings).token())
    assert (found["aud"], found["appid"], found["appidacr"]) == (ENVIRONMENT, tenant.client.client_id, "2")
    assert KEY.splitlines()[1] in settings.secrets
    assert KEY.splitlines()[1] not in repr(settings)


def test_a_certificate_that_is_not_registered(tenant: Tenant) -> None:
    other, key, _ = certificate()
    with pytest.raises(Unauthorized, match="AADSTS700027") as caught:
        dataverse_tokens(tenant.settings(DATAVERSE_CLIENT_CERTIFICATE=key + other)).token()
    assert "BEGIN" not in str(caught.value)


def test_a_key_that_is_not_the_certificates_and_one_that_is_none(tenant: Tenant) -> None:
    _, other, _ = certificate()
    broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    for key, sentence in ((other, "not that of"), (broken, "cannot be read")):
        with pytest.raises(Terminal, match=sentence):
            dataverse_tokens(tenant.settings(DATAVERSE_CLIENT_CERTIFICATE=key + CERTIFICATE)).token()
    with pytest.raises(ValueError, match="both in PEM form"):
        CertificateTokens("t", "c", CERTIFICATE, ENVIRONMENT)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": certificate()[2]}, 700027),
        ({"header": {}}, 700027),
        ({"aud": "https://login.example/other"}, 700023),
        ({"exp": 1_700_000_000, "nbf": 1_699_999_000}, 700024),
        ({"nbf": 4_000_000_000, "exp": 4_000_000_600}, 700024),
        ({"iss": "00000000-0000-0000-0000-000000000009"}, 700021),
        ({"jti": None}, 50027),
        ({"exp": None}, 50027),
    ],
)
def test_the_tenant_refuses_a_forged_assertion(tenant: Tenant, changes: dict[str, Any], code: int) -> None:
    assert tenant.ask(tenant.assertion()).status_code == 200
    answer = tenant.ask(tenant.assertion(**changes))
    assert (answer.status_code, answer.json()["error"], answer.json()["error_codes"]) == (401, "invalid_client", [code])


def test_an_assertion_that_is_signed_by_nobody(tenant: Tenant) -> None:
    unsigned = jwt.encode(claims(tenant.assertion()), None, "none", thumbprint())
    assert tenant.ask(unsigned).status_code == 401
    assert tenant.ask("x.y.z").status_code == 401


def test_the_app_s_own_identity_and_one_that_is_assigned(tenant: Tenant, platform: dict[str, str]) -> None:
    settings = tenant.settings(**platform, DATAVERSE_CLIENT_ID="", DATAVERSE_TENANT_ID="")
    assert claims(dataverse_tokens(settings).token())["oid"] == tenant.own.object_id
    other = tenant.directory.named("assigned", managed=True)
    settings = tenant.settings(**platform, DATAVERSE_CLIENT_ID=other.client_id)
    found = claims(dataverse_tokens(settings).token())
    assert (found["oid"], found["aud"]) == (other.object_id, ENVIRONMENT)
    assert platform["IDENTITY_HEADER"] in settings.secrets
    assert platform["IDENTITY_HEADER"] not in repr(settings)


def test_an_identity_is_asked_once_and_again_when_it_was_refused(tenant: Tenant, platform: dict[str, str]) -> None:
    tokens = ManagedIdentityTokens(ENVIRONMENT)
    first = tokens.token()
    assert tokens.token() == first
    assert tokens.renew("another") == first
    assert tokens.renew(first) != first


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"IDENTITY_HEADER": "wrong"}, Unauthorized),
        ({"IDENTITY_ENDPOINT": "http://127.0.0.1:9/msi/token"}, Transient),
    ],
)
def test_a_platform_that_gives_no_token(
    tenant: Tenant, platform: dict[str, str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], error: Any
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match="no token") as caught:
        ManagedIdentityTokens(ENVIRONMENT).token()
    assert "wrong" not in str(caught.value).replace("missing or wrong", "")


def test_a_registration_is_no_managed_identity(tenant: Tenant, platform: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        ManagedIdentityTokens(ENVIRONMENT, tenant.client.client_id).token()


@pytest.fixture
def authority(tenant: Tenant) -> Authority:
    url = f"{tenant.server.url}/{tenant.directory.tenant_id}"
    return Authority.read(url, tenant.ca_file, {tenant.own.object_id: RIGHTS - {"Manage"}})


def bus_of(tenant: Tenant, platform: dict[str, str], broker: Broker) -> ServiceBusClient:
    namespace = {"ServiceBusConnection__fullyQualifiedNamespace": f"localhost:{broker.port}"}
    return service_bus(tenant.settings(**platform, **namespace, ServiceBusConnection=""), retry_total=0)


def test_service_bus_without_a_key(tenant: Tenant, platform: dict[str, str], authority: Authority) -> None:
    with Broker(queues(q={}), authority=authority) as broker, bus_of(tenant, platform, broker) as bus:
        with bus.get_queue_sender("q") as sender:
            sender.send_messages(ServiceBusMessage("hello"))
        with bus.get_queue_receiver("q") as receiver:
            (message,) = receiver.receive_messages(1, max_wait_time=5)
            receiver.complete_message(message)


@pytest.mark.parametrize("why", ["no role", "another authority", "no authority", "another resource"])
def test_service_bus_refuses_an_identity(
    tenant: Tenant, platform: dict[str, str], authority: Authority, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    trusted: Authority | None = authority
    match why:
        case "no role":
            trusted = Authority(authority.keys, authority.issuer, {})
        case "another authority":
            trusted = Authority(authority.keys, "https://sts.example/other/", authority.roles)
        case "no authority":
            trusted = None
        case _:
            monkeypatch.setattr("connector.bus.client._RESOURCE", ENVIRONMENT)
    with (
        Broker(queues(q={}), authority=trusted) as broker,
        bus_of(tenant, platform, broker) as bus,
        pytest.raises(ServiceBusAuthenticationError),
        bus.get_queue_sender("q") as sender,
    ):
        sender.send_messages(ServiceBusMessage("hello"))


REFERENCE = "@Microsoft.KeyVault(SecretUri=https://vault.vault.azure.net/secrets/hush)"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({}, "DATAVERSE_CLIENT_SECRET is missing, and so is DATAVERSE_CLIENT_CERTIFICATE"),
        ({"DATAVERSE_CLIENT_SECRET": "s", "DATAVERSE_CLIENT_CERTIFICATE": KEY + CERTIFICATE}, "are both there"),
        ({"DATAVERSE_CLIENT_SECRET": "s", "DATAVERSE_TENANT_ID": ""}, "DATAVERSE_TENANT_ID is missing"),
        ({"DATAVERSE_CLIENT_SECRET": "s", "DATAVERSE_CLIENT_ID": ""}, "DATAVERSE_CLIENT_ID is missing"),
        ({"DATAVERSE_CLIENT_SECRET": "s", "ServiceBusConnection": ""}, "ServiceBusConnection is missing"),
        ({"DATAVERSE_CLIENT_CERTIFICATE": CERTIFICATE}, "DATAVERSE_CLIENT_CERTIFICATE: a certificate with its private"),
        ({"DATAVERSE_CLIENT_CERTIFICATE": "/no/such.pem"}, "DATAVERSE_CLIENT_CERTIFICATE: a certificate with its"),
        ({"DATAVERSE_CLIENT_SECRET": REFERENCE}, "DATAVERSE_CLIENT_SECRET: its Key Vault reference is not resolved"),
        (
            {"DATAVERSE_CLIENT_SECRET": "s", "ServiceBusConnection": REFERENCE},
            "ServiceBusConnection: its Key Vault reference is not resolved",
        ),
        (
            {
                "DATAVERSE_CLIENT_SECRET": "s",
                "ServiceBusConnection__fullyQualifiedNamespace": "x.servicebus.windows.net",
            },
            "ServiceBusConnection and ServiceBusConnection__fullyQualifiedNamespace are both there",
        ),
        (
            {
                "DATAVERSE_CLIENT_SECRET": "s",
                "ServiceBusConnection": "",
                "ServiceBusConnection__fullyQualifiedNamespace": "x.servicebus.windows.net",
            },
            "needs a managed identity, and there is none here",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(tenant: Tenant, more: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        tenant.settings(**more)
    assert "hush" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)
