"""Access tokens: RS256 JWTs of the tenant's authority, checked as Dataverse checks them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import requests

from local.dataverse.errors import Fault

_LEEWAY = 0  # Dataverse's tolerance is unknown; the stand-in allows none so that expiry is exercised


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for: an application (`application`) or a person (`object_id`)."""

    application: str | None
    object_id: str | None


class Unauthorized(Exception):
    """No token, or none that counts."""


KeySource = Callable[[], list[dict[str, Any]]]


def keys_of(authority: str, ca_file: Path | None) -> KeySource:
    """Reads the signing keys from an authority's OpenID configuration."""

    def fetch() -> list[dict[str, Any]]:
        verify: bool | str = str(ca_file) if ca_file else True
        configuration = f"{authority.rstrip('/')}/v2.0/.well-known/openid-configuration"
        uri = requests.get(configuration, verify=verify, timeout=5).json()["jwks_uri"]
        keys: list[dict[str, Any]] = requests.get(uri, verify=verify, timeout=5).json()["keys"]
        return keys

    return fetch


class TokenCheck:
    """Turns an Authorization header into an identity. `audience` is the environment's URL, with or without a slash."""

    def __init__(self, keys: KeySource, audiences: list[str]) -> None:
        self._fetch = keys
        self._audiences = [variant for url in audiences for variant in (url.rstrip("/"), url.rstrip("/") + "/")]
        self._keys: dict[str, Any] = {}
        self._fetched = -60.0
        self._seen: dict[str, tuple[float, Identity]] = {}
        self._lock = threading.Lock()

    def __call__(self, header: str | None) -> Identity:
        """Raises Unauthorized."""
        if not header or not header[:7].lower() == "bearer ":
            raise Unauthorized("no bearer token")
        token = header[7:].strip()
        found = self._seen.get(token)
        if found is not None:
            if found[0] > time.time():
                return found[1]
            raise Unauthorized("the token has expired")
        try:
            key = self._key(str(jwt.get_unverified_header(token).get("kid")))
            claims = jwt.decode(
                token, key, algorithms=["RS256"], audience=self._audiences, leeway=_LEEWAY, options={"require": ["exp"]}
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(str(error)) from None
        person = claims.get("scp") is not None or claims.get("idtyp") == "user"
        identity = Identity(claims.get("appid") or claims.get("azp"), claims.get("oid") if person else None)
        with self._lock:
            if len(self._seen) > 1000:
                self._seen.clear()
            self._seen[token] = (float(claims["exp"]), identity)
        return identity

    def _key(self, kid: str) -> Any:
        with self._lock:
            if kid not in self._keys and time.monotonic() - self._fetched > 1:  # keys may have been rolled over
                self._fetched = time.monotonic()
                try:
                    found = self._fetch()
                except (requests.RequestException, KeyError, ValueError) as error:
                    raise Fault(
                        503, "0x80048306", "The authority that signs access tokens cannot be reached."
                    ) from error
                self._keys = {str(key.get("kid")): jwt.PyJWK(key).key for key in found if key.get("kty") == "RSA"}
            if kid not in self._keys:
                raise Unauthorized("the token is signed with an unknown key")
            return self._keys[kid]


def anyone(application: str | None = None, object_id: str | None = None) -> Callable[[str | None], Identity]:
    """For use inside a process: every caller is this one."""
    return lambda _: Identity(application, object_id)
