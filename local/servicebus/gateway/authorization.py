"""Claims-based security: shared access signatures, and tokens of Entra, put to `$cbs`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import unquote_plus, urlsplit

import jwt
import requests

from local.servicebus.model.errors import ArgumentError, Unauthorized

_SCHEME = "SharedAccessSignature "
RIGHTS = frozenset({"Listen", "Send", "Manage"})
_AUDIENCES = ("https://servicebus.azure.net", "https://servicebus.azure.net/")


@dataclass(frozen=True, slots=True)
class Policy:
    """A shared access policy of the namespace: the key of its name, and what it allows."""

    key: str
    rights: frozenset[str] = RIGHTS

    @property
    def allowed(self) -> frozenset[str]:
        return RIGHTS if "Manage" in self.rights else self.rights  # Manage includes the others


@dataclass(frozen=True, slots=True)
class Authority:
    """An Entra tenant: its signing keys by id, its issuer, and what the namespace's role assignments allow each object id."""

    keys: Mapping[str, Any]
    issuer: str
    roles: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, url: str, ca_file: str | None, roles: Mapping[str, frozenset[str]]) -> Self:
        """Of an authority's address with its tenant, by its OpenID configuration. OSError when it does not answer."""
        verify: str | bool = ca_file or True
        found = requests.get(f"{url.rstrip('/')}/.well-known/openid-configuration", verify=verify, timeout=10).json()
        keys = requests.get(found["jwks_uri"], verify=verify, timeout=10).json()["keys"]
        return cls({key["kid"]: jwt.PyJWK(key).key for key in keys}, found["issuer"], roles)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows, and until when."""

    end: datetime
    rights: frozenset[str]


def entity_path(uri: str) -> str:
    """The path below scheme and authority, in lower case, without slashes at its ends."""
    path = urlsplit(uri).path if "://" in uri else uri
    return path.strip("/").lower()


def covers(granted: str, path: str) -> bool:
    """Whether a token for one path authorizes another: the same or below it."""
    return granted in ("", path) or path.startswith(granted + "/")


def check_token(
    token: object, audience: str, policies: Mapping[str, Policy], now: datetime, authority: Authority | None = None
) -> Grant:
    """Check a shared access signature against the policies by name, or a token of the authority. Raises Unauthorized.

    Source: "Service Bus access control with Shared Access Signatures", Microsoft.
    """
    if authority and isinstance(token, str) and token.startswith("eyJ"):
        return _check_jwt(token, authority, now)
    if not isinstance(token, str) or not token.startswith(_SCHEME):
        raise Unauthorized("MalformedToken: A shared access signature is expected.")
    parts = dict(part.split("=", 1) for part in token[len(_SCHEME) :].split("&") if "=" in part)
    try:
        resource, signature, end, name = (parts[key] for key in ("sr", "sig", "se", "skn"))
        expires = datetime.fromtimestamp(int(end), UTC)
    except KeyError as error:
        raise Unauthorized(f"MalformedToken: The token lacks {error}.") from error
    except (ValueError, OverflowError, OSError) as error:
        raise Unauthorized("MalformedToken: The token's expiry is not a time.") from error
    policy = policies.get(unquote_plus(name))
    digest = hmac.new((policy.key if policy else "").encode(), f"{resource}\n{end}".encode(), hashlib.sha256).digest()
    expected = base64.b64encode(digest).decode()
    if policy is None or not hmac.compare_digest(expected.encode(), unquote_plus(signature).encode()):
        raise Unauthorized("InvalidSignature: The token has an invalid signature.")
    if expires <= now:
        raise Unauthorized(f"ExpiredToken: The token is expired. Expiration time (UTC): {expires:%Y-%m-%d %H:%M:%S}")
    if not covers(entity_path(unquote_plus(resource)), entity_path(audience)):
        raise Unauthorized("InvalidAudience: The token is for another resource.")
    return Grant(expires, policy.allowed)


def _check_jwt(token: str, authority: Authority, now: datetime) -> Grant:
    """Source: "Authenticate and authorize an application with Microsoft Entra ID to access Service Bus", Microsoft."""
    checked_below: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp", "oid"]}
    try:
        key = authority.keys[str(jwt.get_unverified_header(token).get("kid"))]
        claims = jwt.decode(
            token, key, algorithms=["RS256"], audience=_AUDIENCES, issuer=authority.issuer, options=checked_below
        )
        expires = datetime.fromtimestamp(int(claims["exp"]), UTC)
    except jwt.InvalidAudienceError:
        raise Unauthorized("InvalidAudience: The token is for another resource.") from None
    except (jwt.PyJWTError, KeyError, ValueError, OverflowError, OSError):
        raise Unauthorized("InvalidSignature: The token is not one of the tenant's.") from None
    if expires <= now:
        raise Unauthorized(f"ExpiredToken: The token is expired. Expiration time (UTC): {expires:%Y-%m-%d %H:%M:%S}")
    rights = authority.roles.get(str(claims["oid"]))
    if rights is None:
        raise Unauthorized("Unauthorized: The identity has no role on the namespace.")
    return Grant(expires, RIGHTS if "Manage" in rights else rights)


def check_plain(response: bytes, policies: Mapping[str, Policy]) -> Grant | None:
    """What a SASL PLAIN response (RFC 4616) with a policy's name and key allows, for the life of its connection."""
    parts = response.split(b"\0")
    policy = policies.get(parts[1].decode(errors="replace")) if len(parts) == 3 else None
    if policy is None or not hmac.compare_digest(parts[2], policy.key.encode()):
        return None
    return Grant(datetime.max.replace(tzinfo=UTC), policy.allowed)


def audience_of(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentError("put-token needs the audience in the property 'name'.")
    return value
