"""Access tokens for one Dataverse environment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from .errors import Terminal, Transient, Unauthorized

if TYPE_CHECKING:  # MSAL is heavy, and nothing needs it before the first token
    from msal import ConfidentialClientApplication  # type: ignore[import-untyped]

_MARGIN = 240.0  # seconds before expiry at which we ask again; MSAL itself stops using its copy 300 s before


class TokenProvider(Protocol):
    """Where bearer tokens come from. Calls may come from any thread."""

    def token(self) -> str:
        """A token that is valid now."""
        ...

    def renew(self, rejected: str) -> str:
        """A token other than ``rejected``, which the server has just refused."""
        ...


class ClientSecretTokens:
    """Tokens of an app registration with a client secret (OAuth 2.0 client credentials, through MSAL).

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
        authority = authority.rstrip("/")
        if urlsplit(authority).scheme != "https":
            raise ValueError(f"authority: {authority!r} is not an https URL")
        self._authority = authority if urlsplit(authority).path else f"{authority}/{tenant_id}"
        self._client_id = client_id
        self._secret = secret
        self._scope = resource_url.rstrip("/") + "/.default"
        self._ca_file = ca_file
        self._clock = clock
        self._lock = threading.Lock()
        self._application: ConfidentialClientApplication | None = None
        self._token = ""
        self._renew_at = self._expires_at = float("-inf")

    def token(self) -> str:
        if self._clock() < self._renew_at:
            return self._token
        with self._lock:
            if self._clock() >= self._renew_at:
                try:
                    self._acquire()
                except Transient:
                    if self._clock() >= self._expires_at:
                        raise
                    self._renew_at = min(self._expires_at, self._clock() + 10)  # the old one serves until then
            return self._token

    def renew(self, rejected: str) -> str:
        with self._lock:
            if self._token == rejected:
                if self._application:
                    self._application.remove_tokens_for_client()
                self._acquire()
            return self._token

    def _acquire(self) -> None:
        from msal.exceptions import MsalError  # type: ignore[import-untyped]
        from requests import RequestException

        try:
            answer = self._connected().acquire_token_for_client([self._scope])
        except (RequestException, MsalError, JSONDecodeError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Terminal(f"the certificate of {self._authority} is not trusted") from None
            self._application = None  # MSAL would answer with this failure for another minute
            # No details and no cause: they may quote the request.
            raise Transient(f"no token from {self._authority}: {type(error).__name__}") from None
        except ValueError:
            raise Unauthorized(f"{self._authority} is not a tenant that the login service knows", status=401) from None
        if not answer or "access_token" not in answer:
            raise _refused(answer or {})
        now, lifetime = self._clock(), float(answer["expires_in"])
        self._token = answer["access_token"]
        self._expires_at = now + lifetime
        self._renew_at = now + max(lifetime - _MARGIN, lifetime / 2)

    def _connected(self) -> ConfidentialClientApplication:
        if self._application is None:
            from msal import ConfidentialClientApplication
            from requests import Session

            session = Session()
            session.verify = self._ca_file or True
            session.trust_env = not self._ca_file  # REQUESTS_CA_BUNDLE would outrank the file that the setting names
            session.request = partial(session.request, timeout=10)  # type: ignore[method-assign]
            self._application = ConfidentialClientApplication(
                self._client_id,
                client_credential=self._secret,
                authority=self._authority,
                instance_discovery=False,  # the authority is configured, not guessed: one request less
                http_client=session,
            )
        return self._application


def _refused(answer: dict[str, Any]) -> Unauthorized | Transient:
    reason = answer.get("error", "")
    message = str(answer.get("error_description") or reason or "no reason given").splitlines()[0]
    if reason in {"temporarily_unavailable", "server_error", ""}:
        return Transient(f"no token: {message}", status=503)
    return Unauthorized(f"no token: {message}", status=401)
