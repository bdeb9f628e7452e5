"""The token endpoint of one Entra tenant as a WSGI application: client-credentials flow, discovery, signing keys.

Shapes follow Microsoft's identity platform: v2.0 endpoints, access tokens in the v1.0 format that Dataverse gets
(`aud` the resource, `iss` the tenant's issuer, `appid`, `oid`, `tid`, RS256 with `kid`). `/admin` is ours: counters
and dials for tests.
"""

import base64
import datetime
import json
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from local.entra import assertions, errors
from local.entra.directory import Directory, Registration

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_DIALS: dict[str, tuple[float, float]] = {  # name -> smallest and largest value
    "token_lifetime_seconds": (1, 86_400),
    "delay_seconds": (0, 60),
    "error_rate": (0, 1),
    "seed": (0, 2**53),
}


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class EntraApp:
    """`base` is the authority's own address without a tenant; `resources` the App ID URIs that tokens may be for."""

    def __init__(
        self,
        directory: Directory,
        base: str,
        resources: Iterable[str] = (),
        *,
        token_lifetime: int = 3599,
        now: Callable[[], datetime.datetime] = _utc_now,
    ) -> None:
        self.directory, self.base, self._now = directory, base.rstrip("/"), now
        self._resources = {r.rstrip("/").lower() for r in resources}
        self._dials: dict[str, float] = {
            "token_lifetime_seconds": token_lifetime,
            "delay_seconds": 0,
            "error_rate": 0,
            "seed": 0,
        }
        self._random = random.Random(0)
        self._counters: Counter[str] = Counter()
        self._lock = threading.Lock()
        public = directory.signing_key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(der)
        self._kid = base64.urlsafe_b64encode(digest.finalize()[:20]).rstrip(b"=").decode()
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        self._keys = {
            "keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self._kid, "n": jwk["n"], "e": jwk["e"]}]
        }
        self._urls = Map(
            [
                Rule("/common/discovery/instance", endpoint=self._instances),
                Rule("/<tenant>/v2.0/.well-known/openid-configuration", endpoint=self._openid_v2),
                Rule("/<tenant>/.well-known/openid-configuration", endpoint=self._openid_v1),
                Rule("/<tenant>/discovery/v2.0/keys", endpoint=self._signing_keys),
                Rule("/<tenant>/discovery/keys", endpoint=self._signing_keys),
                Rule("/<tenant>/oauth2/v2.0/token", endpoint=self._token, methods=["POST"]),
                Rule("/admin/health", endpoint=self._health),
                Rule("/admin/counters", endpoint=self._show_counters),
                Rule("/admin/dials", endpoint=self._turn_dials, methods=["GET", "POST"]),
                Rule("/admin/registrations", endpoint=self._register, methods=["POST"]),
                Rule("/admin/registrations/<client_id>/certificate", endpoint=self._add_certificate, methods=["POST"]),
                Rule("/admin/registrations/<client_id>/secret", endpoint=self._renew_secret, methods=["POST"]),
            ]
        )

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            endpoint, arguments = self._urls.bind_to_environ(request.environ).match()
            result: Response = endpoint(request, **arguments)
        except errors.Refused as refusal:
            with self._lock:
                self._counters[f"AADSTS{refusal.code}"] += 1
            return refusal.response(self.base, self._now())
        except HTTPException as error:
            return Response(error.description, error.code or 500, content_type="text/plain")
        return result

    # tokens

    def _token(self, request: Request, tenant: str) -> Response:
        with self._lock:
            self._counters["token_requests"] += 1
            failing = self._random.random() < self._dials["error_rate"]
            delay = self._dials["delay_seconds"]
        if delay:
            time.sleep(delay)
        if failing:
            raise ServiceUnavailable
        self._check_tenant(tenant)
        form = {name: value for name, value in request.form.items() if value}
        for name in ("client_id", "grant_type", "scope"):
            if name not in form:
                raise errors.missing_parameter(name)
        if form["grant_type"] != "client_credentials":
            raise errors.unsupported_grant(form["grant_type"])
        client = self.directory.find(form["client_id"])
        if client is None:
            raise errors.unknown_client(form["client_id"], self.directory.tenant_id)
        self._check_credential(form, client)
        token, lifetime = self.issue(client, self._resource(form["scope"]), certificate="client_assertion" in form)
        answer = {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}
        response = _json(answer)
        response.headers["Cache-Control"] = "no-store, no-cache"
        return response

    def _check_credential(self, form: dict[str, str], client: Registration) -> None:
        if form.get("client_assertion_type") == assertions.TYPE and "client_assertion" in form:
            root = f"{self.base}/{self.directory.tenant_id}"
            audiences = (f"{root}/oauth2/v2.0/token", f"{root}/v2.0", self._issuer)
            assertions.check_assertion(form["client_assertion"], client, audiences, self._now())
            return
        if "client_secret" not in form:
            raise errors.missing_secret()
        if not client.secret or not secrets.compare_digest(form["client_secret"].encode(), client.secret.encode()):
            raise errors.wrong_secret(client.client_id)

    def issue(self, client: Registration, resource: str, *, certificate: bool = False) -> tuple[str, int]:
        """An access token of the client for a resource, and its lifetime in seconds."""
        now = int(self._now().timestamp())
        with self._lock:
            lifetime = int(self._dials["token_lifetime_seconds"])
            self._counters["tokens_issued"] += 1
        claims = {
            "aud": resource,
            "iss": self._issuer,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "appid": client.client_id,
            "appidacr": "2" if certificate or client.managed else "1",  # 1: secret, 2: certificate
            "idp": self._issuer,
            "oid": client.object_id,
            "sub": client.object_id,
            "tid": self.directory.tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
        }
        return jwt.encode(claims, self.directory.signing_key, "RS256", {"kid": self._kid, "x5t": self._kid}), lifetime

    def _resource(self, scope: str) -> str:
        resource, found, rest = scope.partition("/.default")
        if not found or rest or " " in resource or not resource:
            raise errors.invalid_scope(scope)
        if not self.knows(resource):
            raise errors.unknown_resource(resource, self.directory.tenant_id)
        return resource

    def knows(self, resource: str) -> bool:
        """Whether tokens may be for this App ID URI."""
        return resource.rstrip("/").lower() in self._resources

    def _check_tenant(self, tenant: str, error: str = "invalid_request") -> None:
        if tenant.lower() != self.directory.tenant_id:
            raise errors.unknown_tenant(tenant, error)

    # discovery

    @property
    def _issuer(self) -> str:
        """Of v1.0 tokens; in the cloud https://sts.windows.net/<tenant>/."""
        return f"{self.base}/{self.directory.tenant_id}/"

    def _openid_v2(self, request: Request, tenant: str) -> Response:
        self._check_tenant(tenant, "invalid_tenant")
        root = f"{self.base}/{self.directory.tenant_id}"
        return _json(
            {
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "profile", "offline_access"],
                "issuer": f"{root}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "tenant_region_scope": None,
                "cloud_instance_name": self.base.partition("//")[2],
            }
        )

    def _openid_v1(self, request: Request, tenant: str) -> Response:
        self._check_tenant(tenant, "invalid_tenant")
        root = f"{self.base}/{self.directory.tenant_id}"
        return _json(
            {
                "token_endpoint": f"{root}/oauth2/token",
                "jwks_uri": f"{root}/discovery/keys",
                "issuer": self._issuer,
                "authorization_endpoint": f"{root}/oauth2/authorize",
                "id_token_signing_alg_values_supported": ["RS256"],
                "subject_types_supported": ["pairwise"],
                "response_types_supported": ["code"],
            }
        )

    def _signing_keys(self, request: Request, tenant: str) -> Response:
        self._check_tenant(tenant, "invalid_tenant")
        return _json(self._keys)

    def _instances(self, request: Request) -> Response:
        host = self.base.partition("//")[2]
        return _json(
            {
                "tenant_discovery_endpoint": f"{self.base}/{self.directory.tenant_id}/v2.0/.well-known/"
                "openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            }
        )

    # ours

    def _health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    def _show_counters(self, request: Request) -> Response:
        with self._lock:
            return _json({"token_requests": 0, "tokens_issued": 0} | dict(self._counters))

    def _turn_dials(self, request: Request) -> Response:
        if request.method == "POST":
            wanted = _object(request)
            for name, value in wanted.items():
                if name not in _DIALS or isinstance(value, bool) or not isinstance(value, int | float):
                    return _json({"error": f"{name}: no such dial, or not a number"}, 400)
                low, high = _DIALS[name]
                if not low <= value <= high:
                    return _json({"error": f"{name}: must lie between {low} and {high}"}, 400)
            with self._lock:
                self._dials.update(wanted)
                self._random = random.Random(int(self._dials["seed"]))
        return _json(self._dials)

    def _register(self, request: Request) -> Response:
        wanted = _object(request)
        try:
            made = self.directory.register(str(wanted.get("name") or "client"), wanted.get("client_id"))
        except (ValueError, AttributeError) as error:
            return _json({"error": f"client_id: {error}"}, 400)
        return _json(_public(made), 201)

    def _renew_secret(self, request: Request, client_id: str) -> Response:
        try:
            return _json(_public(self.directory.renew_secret(client_id)))
        except KeyError:
            return _json({"error": "client_id: no such client"}, 404)

    def _add_certificate(self, request: Request, client_id: str) -> Response:
        try:
            return _json(_public(self.directory.add_certificate(client_id, str(_object(request).get("certificate")))))
        except KeyError:
            return _json({"error": "client_id: no such client"}, 404)
        except ValueError:
            return _json({"error": "certificate: PEM text is expected"}, 400)


def _public(registration: Registration) -> dict[str, str]:
    return {
        "client_id": registration.client_id,
        "object_id": registration.object_id,
        "name": registration.name,
        "client_secret": registration.secret,
    }


def _object(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(request.get_data() or b"{}")
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"body": None}


def _json(document: object, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json; charset=utf-8")
