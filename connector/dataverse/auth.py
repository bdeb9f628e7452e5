"""Access tokens: for a Dataverse environment, or for another resource that the same sign-in opens."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from .errors import Terminal, Transient, Unauthorized

if TYPE_CHECKING:  # MSAL is heavy, and nothing needs it before the first token
    from msal import ConfidentialClientApplication, ManagedIdentityClient  # type: ignore[import-untyped]
    from requests import Session

_MARGIN = 240.0  # seconds before expiry at which we ask again; MSAL itself stops using its copy 300 s before
_PEM = re.compile(r"(-----BEGIN ((?:[A-Z0-9]+ )*(?:PRIVATE KEY|CERTIFICATE))-----.+?-----END \2-----)", re.DOTALL)


class TokenProvider(Protocol):
    """Where bearer tokens come from. Calls may come from any thread."""

    def token(self) -> str:
        """A token that is valid now."""
        ...

    def renew(self, rejected: str) -> str:
        """A token other than ``rejected``, which the server has just refused."""
        ...


class _Tokens(ABC):
    """Keeps one token and asks for the next in time. Raises ``Unauthorized`` when it is refused, ``Transient`` when nobody
    answers."""

    def __init__(self, source: str, clock: Callable[[], float]) -> None:
        self._source = source  # as errors name it
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = self._expires_at = float("-inf")

    @abstractmethod
    def _ask(self) -> dict[str, Any] | None:
        """MSAL's answer."""

    @abstractmethod
    def _forget(self) -> None:
        """Whatever MSAL keeps: tokens, and the last failure, which it would answer with for another minute."""

    def token(self) -> str:
        return self.lease()[0]

    def lease(self) -> tuple[str, float]:
        """A token that is valid now, and for how many seconds."""
        if self._clock() >= self._renew_at:
            with self._lock:
                if self._clock() >= self._renew_at:
                    try:
                        self._acquire()
                    except Transient:
                        if self._clock() >= self._expires_at:
                            raise
                        self._renew_at = min(self._expires_at, self._clock() + 10)  # the old one serves until then
        return self._token, self._expires_at - self._clock()

    def renew(self, rejected: str) -> str:
        with self._lock:
            if self._token == rejected:
                self._forget()
                self._acquire()
            return self._token

    def _acquire(self) -> None:
        from msal.exceptions import MsalError  # type: ignore[import-untyped]
        from requests import RequestException

        try:
            answer = self._ask()
        except (RequestException, MsalError, JSONDecodeError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Terminal(f"the certificate of {self._source} is not trusted") from None
            self._forget()
            # No details and no cause: they may quote the request.
            raise Transient(f"no token from {self._source}: {type(error).__name__}") from None
        if not answer or "access_token" not in answer:
            raise _refused(answer or {})
        now, lifetime = self._clock(), float(answer["expires_in"])
        self._token = answer["access_token"]
        self._expires_at = now + lifetime
        self._renew_at = now + max(lifetime - _MARGIN, lifetime / 2)


class _ClientTokens(_Tokens):
    """An app registration that proves itself with a credential (OAuth 2.0 client credentials, through MSAL)."""

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        credential: str | dict[str, str],
        resource_url: str,
        authority: str,
        ca_file: str | None,
        clock: Callable[[], float],
    ) -> None:
        authority = authority.rstrip("/")
        if urlsplit(authority).scheme != "https":
            raise ValueError(f"authority: {authority!r} is not an https URL")
        super().__init__(authority if urlsplit(authority).path else f"{authority}/{tenant_id}", clock)
        self._client_id = client_id
        self._credential = credential
        self._scope = resource_url.rstrip("/") + "/.default"
        self._ca_file = ca_file
        self._application: ConfidentialClientApplication | None = None

    def _ask(self) -> dict[str, Any] | None:
        try:
            application = self._application = self._application or self._connect()
            found: dict[str, Any] | None = application.acquire_token_for_client([self._scope])
        except JSONDecodeError:
            raise
        except ValueError:
            raise Unauthorized(f"{self._source} is not a tenant that the login service knows", status=401) from None
        return found

    def _forget(self) -> None:
        self._application = None

    def _connect(self) -> ConfidentialClientApplication:
        from msal import ConfidentialClientApplication

        return ConfidentialClientApplication(
            self._client_id,
            client_credential=self._credential,
            authority=self._source,
            instance_discovery=False,  # the authority is configured, not guessed: one request less
            http_client=_session(self._ca_file),
        )


class ClientSecretTokens(_ClientTokens):
    """Tokens of an app registration with a client secret.

    ``resource_url`` is the environment's URL, ``authority`` the login service with or without the tenant.
    Raises ``Unauthorized`` when Entra refuses (wrong secret, unknown tenant), ``Transient`` when it cannot
    be reached.
    """

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        secret: str,
        resource_url: str,
        authority: str = "https://login.microsoftonline.com",
        ca_file: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(tenant_id, client_id, secret, resource_url, authority, ca_file, clock)


class CertificateTokens(_ClientTokens):
    """The same with a certificate: each request is signed with its key, which never leaves this process.

    ``certificate`` is PEM text with the certificate and its unencrypted private key. ValueError without saying more
    than what is missing.
    """

    def __init__(
        self,
        tenant_id: str,
        client_id: str,
        certificate: str,
        resource_url: str,
        authority: str = "https://login.microsoftonline.com",
        ca_file: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        blocks = {kind: block for block, kind in _PEM.findall(certificate)}
        key = next((block for kind, block in blocks.items() if kind.endswith("PRIVATE KEY")), None)
        if key is None or "CERTIFICATE" not in blocks or "ENCRYPTED" in key:
            raise ValueError("a certificate and its unencrypted private key are expected, both in PEM form")
        credential = {"private_key": key, "public_certificate": blocks["CERTIFICATE"]}
        super().__init__(tenant_id, client_id, credential, resource_url, authority, ca_file, clock)

    def _connect(self) -> ConfidentialClientApplication:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        assert isinstance(self._credential, dict)
        key, certificate = (self._credential[part].encode() for part in ("private_key", "public_certificate"))
        try:
            fits = (
                load_pem_private_key(key, None).public_key() == x509.load_pem_x509_certificate(certificate).public_key()
            )
        except ValueError:
            raise Terminal("the client certificate or its private key cannot be read") from None
        if not fits:
            raise Terminal("the private key is not that of the client certificate")
        return super()._connect()


class ManagedIdentityTokens(_Tokens):
    """Tokens of the identity that the platform gives to the function app: there is nothing to keep secret or to renew.

    ``resource_url`` is what the token is for; ``client_id`` names a user-assigned identity, empty is the app's own.
    Needs the platform's IDENTITY_ENDPOINT and IDENTITY_HEADER in the environment.
    """

    def __init__(self, resource_url: str, client_id: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("the managed identity", clock)
        self._resource = resource_url.rstrip("/")
        self._client_id = client_id
        self._client: ManagedIdentityClient | None = None

    def _ask(self) -> dict[str, Any] | None:
        client = self._client = self._client or self._connect()
        found: dict[str, Any] | None = client.acquire_token_for_client(resource=self._resource)
        return found

    def _forget(self) -> None:
        self._client = None

    def _connect(self) -> ManagedIdentityClient:
        from msal import ManagedIdentityClient, SystemAssignedManagedIdentity, UserAssignedManagedIdentity

        named = UserAssignedManagedIdentity(client_id=self._client_id) if self._client_id else None
        return ManagedIdentityClient(named or SystemAssignedManagedIdentity(), http_client=_session(None))


def _session(ca_file: str | None) -> Session:
    from requests import Session

    session = Session()
    session.verify = ca_file or True
    session.trust_env = not ca_file  # REQUESTS_CA_BUNDLE would outrank the file that the setting names
    session.request = partial(session.request, timeout=10)  # type: ignore[method-assign]
    return session


def _refused(answer: dict[str, Any]) -> Unauthorized | Transient:
    reason = answer.get("error", "")
    message = str(answer.get("error_description") or reason or "no reason given").splitlines()[0]
    if reason in {"temporarily_unavailable", "server_error", ""}:
        return Transient(f"no token: {message}", status=503)
    return Unauthorized(f"no token: {message}", status=401)
