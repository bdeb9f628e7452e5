"""Client assertions: JWTs that an application signs with the key of a certificate instead of sending a secret.

Source: "Microsoft identity platform application authentication certificate credentials", Microsoft. A `jti` is asked for and may
come again: Microsoft's own library uses one assertion for nine minutes.
"""

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from local.entra import errors
from local.entra.directory import Registration

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_THUMBPRINTS = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}
_ALGORITHMS = ["PS256", "RS256"]
_CLAIMS = ("aud", "exp", "iss", "jti", "sub")  # Microsoft's library sends no nbf


def check_assertion(token: str, client: Registration, audiences: Iterable[str], now: datetime) -> None:
    """Refused unless one of the client's certificates signed it, for this authority, and it is valid now."""
    try:
        header = jwt.get_unverified_header(token)
        unverified: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise errors.malformed_assertion(str(error)) from None
    missing = [name for name in _CLAIMS if name not in unverified]
    if missing:
        raise errors.malformed_assertion(f"the claim {missing[0]} is missing")
    if not unverified["iss"] == unverified["sub"] == client.client_id:
        raise errors.other_assertion(client.client_id)
    certificate = _signer(header, client)
    if certificate is None:
        raise errors.unknown_certificate(client.client_id)
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    try:
        jwt.decode(token, certificate.public_key(), algorithms=_ALGORITHMS, options=options)  # type: ignore[arg-type]
    except jwt.PyJWTError:
        raise errors.unknown_certificate(client.client_id) from None
    if unverified["aud"] not in set(audiences):
        raise errors.assertion_for_another(str(unverified["aud"]))
    if not float(unverified.get("nbf", 0)) - 300 <= now.timestamp() < float(unverified["exp"]):
        raise errors.assertion_out_of_time(now)


def _signer(header: dict[str, Any], client: Registration) -> x509.Certificate | None:
    """The client's certificate that the header names."""
    for pem in client.certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        for name, digest in _THUMBPRINTS.items():
            thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(digest)).rstrip(b"=").decode()
            if str(header.get(name, "")).rstrip("=") == thumbprint:
                return certificate
    return None
