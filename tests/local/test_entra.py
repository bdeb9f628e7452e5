import datetime
import stat

import jwt
import msal
import pytest
import requests

from local.entra.app import EntraApp
from local.entra.directory import Directory
from local.tls import ensure_certificates
from local.web import WebServer

RESOURCE = "https://contoso.crm.example"
SCOPE = f"{RESOURCE}/.default"


class Tenant:
    def __init__(self, home):
        self.directory = Directory(home)
        self.ca_file = str(ensure_certificates(home).ca_file)
        self.server = WebServer(lambda *request: self.app(*request), certificates=ensure_certificates(home))
        self.app = EntraApp(self.directory, self.server.url, [RESOURCE])
        self.authority = f"{self.server.url}/{self.directory.tenant_id}"
        self.client = self.directory.named("connector")

    def post(self, path, **fields):
        return requests.post(self.server.url + path, **fields, verify=self.ca_file, timeout=5)

    def get(self, path):
        return requests.get(self.server.url + path, verify=self.ca_file, timeout=5)

    def ask(self, tenant=None, **changes):
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client.client_id,
            "client_secret": self.client.secret,
            "scope": SCOPE,
        } | changes
        return self.post(f"/{tenant or self.directory.tenant_id}/oauth2/v2.0/token", data=form)

    def msal(self, **changes):
        arguments = {
            "client_id": self.client.client_id,
            "client_credential": self.client.secret,
            "authority": self.authority,
            "instance_discovery": False,
            "verify": self.ca_file,
        } | changes
        return msal.ConfidentialClientApplication(**arguments)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tenant(home):
    made = Tenant(home)
    with made.server:
        yield made


@pytest.fixture(autouse=True)
def no_bundle_from_outside(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they outrank a session's own `verify`
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def dials(tenant):
    def turn(**values):
        return tenant.post("/admin/dials", json=values)

    before = tenant.get("/admin/dials").json()
    yield turn
    assert turn(**before).status_code == 200


def test_msal_gets_a_token_that_the_published_key_verifies(tenant):
    application = tenant.msal()
    first = application.acquire_token_for_client([SCOPE])
    assert application.acquire_token_for_client([SCOPE])["token_source"] == "cache"
    config = tenant.get(f"/{tenant.directory.tenant_id}/.well-known/openid-configuration").json()
    keys = requests.get(config["jwks_uri"], verify=tenant.ca_file, timeout=5).json()["keys"]
    key = next(k for k in keys if k["kid"] == jwt.get_unverified_header(first["access_token"])["kid"])
    claims = jwt.decode(first["access_token"], jwt.PyJWK(key), ["RS256"], audience=RESOURCE, issuer=config["issuer"])
    assert claims["appid"] == tenant.client.client_id
    assert claims["oid"] == tenant.client.object_id
    assert claims["tid"] == tenant.directory.tenant_id
    assert claims["exp"] - claims["iat"] == first["expires_in"] == 3599


def test_msal_takes_it_as_plain_openid_authority_too(tenant):
    application = tenant.msal(authority=None, instance_discovery=None, oidc_authority=f"{tenant.authority}/v2.0")
    assert "access_token" in application.acquire_token_for_client([SCOPE])


def test_msal_sees_refusals(tenant):
    wrong = tenant.msal(client_credential="wrong").acquire_token_for_client([SCOPE])
    assert wrong["error"] == "invalid_client" and wrong["error_codes"] == [7000215]
    with pytest.raises(ValueError, match="authority configuration"):
        tenant.msal(authority=f"{tenant.server.url}/00000000-0000-0000-0000-000000000001")


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": ""}, 401, "invalid_client", 7000216),
        ({"client_id": "11111111-1111-1111-1111-111111111111"}, 400, "unauthorized_client", 700016),
        ({"tenant": "22222222-2222-2222-2222-222222222222"}, 400, "invalid_request", 90002),
        ({"scope": RESOURCE}, 400, "invalid_scope", 70011),
        ({"scope": f"{SCOPE} openid"}, 400, "invalid_scope", 70011),
        ({"scope": "https://other.example/.default"}, 400, "invalid_resource", 500011),
        ({"scope": ""}, 400, "invalid_request", 900144),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
    ],
)
def test_refusals_have_entras_shape(tenant, changes, status, error, code):
    answer = tenant.ask(**changes)
    document = answer.json()
    assert (answer.status_code, document["error"], document["error_codes"]) == (status, error, [code])
    assert document["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= document.keys()
    assert tenant.client.secret not in answer.text


def test_discovery_refuses_another_tenant(tenant):
    answer = tenant.get("/contoso.example/v2.0/.well-known/openid-configuration")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_tenant")


def test_the_lifetime_is_a_dial(tenant, dials):
    assert dials(token_lifetime_seconds=7).json()["token_lifetime_seconds"] == 7
    answer = tenant.ask().json()
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert answer["expires_in"] == 7 == claims["exp"] - claims["iat"]


def test_failures_follow_their_seed(tenant, dials):
    def run():
        assert dials(error_rate=0.5, seed=11).status_code == 200
        return [tenant.ask().status_code for _ in range(12)]

    first = run()
    assert first == run()
    assert set(first) == {200, 503}


@pytest.mark.parametrize("wrong", [{"speed": 1}, {"error_rate": 2}, {"delay_seconds": "long"}])
def test_a_wrong_dial_is_named(tenant, wrong):
    answer = tenant.post("/admin/dials", json=wrong)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(next(iter(wrong)))


def test_registrations_and_renewed_secrets(tenant):
    made = tenant.post("/admin/registrations", json={"name": "till"}).json()
    credentials = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    assert tenant.ask(**credentials).status_code == 200
    renewed = tenant.post(f"/admin/registrations/{made['client_id']}/secret").json()
    assert tenant.ask(**credentials).status_code == 401
    assert tenant.ask(**credentials | {"client_secret": renewed["client_secret"]}).status_code == 200
    again = tenant.post("/admin/registrations", json={"client_id": made["client_id"]})
    assert (again.status_code, again.json()["error"].split(":")[0]) == (400, "client_id")


def test_the_directory_survives_a_restart(home, tenant):
    again = Directory(home)
    assert again.tenant_id == tenant.directory.tenant_id
    assert again.named("connector") == tenant.client
    assert again.signing_key.private_numbers() == tenant.directory.signing_key.private_numbers()
    for file in (home / "entra").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_secret_in_a_repr(tenant):
    assert tenant.client.secret not in repr(tenant.client)


def test_times_come_from_the_clock_given(home):
    moment = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    directory = Directory(home)
    app = EntraApp(directory, "https://localhost", [RESOURCE], now=lambda: moment)
    with WebServer(app) as server:
        form = {
            "grant_type": "client_credentials",
            "client_id": directory.named("connector").client_id,
            "client_secret": directory.named("connector").secret,
            "scope": SCOPE,
        }
        url = f"{server.url}/{directory.tenant_id}/oauth2/v2.0/token"
        token = requests.post(url, data=form, timeout=5).json()["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["iat"] == moment.timestamp()
