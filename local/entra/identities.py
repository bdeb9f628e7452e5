"""Managed identities as App Service and Functions give them: a local HTTP endpoint, and a header that the app alone knows.

Source: "How to use managed identities for App Service and Azure Functions", REST endpoint reference, Microsoft: api-version
2019-08-01, IDENTITY_ENDPOINT and IDENTITY_HEADER.
"""

import json
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from local.entra.app import EntraApp
from local.entra.directory import Registration

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/msi/token"
_VERSION = "2019-08-01"


class IdentityEndpoint:
    """Tokens of `own`, the system-assigned identity, or of the managed identity that `client_id` names."""

    def __init__(self, entra: EntraApp, own: Registration) -> None:
        self._entra, self._own = entra, own

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        directory = self._entra.directory
        if request.path != PATH or request.method != "GET":
            return _refusal(404, "There is nothing here.")
        header = request.headers.get("X-IDENTITY-HEADER", "")
        if not secrets.compare_digest(header.encode(), directory.identity_header.encode()):
            return _refusal(401, "The header X-IDENTITY-HEADER is missing or wrong.")
        if request.args.get("api-version") != _VERSION:
            return _refusal(400, f"The API version must be {_VERSION}.")
        resource, named = request.args.get("resource", ""), request.args.get("client_id")
        if not self._entra.knows(resource):
            return _refusal(400, f"The resource {resource!r} is not known in the tenant.")
        identity = directory.find(named) if named else self._own
        if identity is None or not identity.managed:
            return _refusal(400, "No managed identity found for the client id.")
        token, lifetime = self._entra.issue(identity, resource)
        found = {
            "access_token": token,
            "expires_on": str(int(time.time()) + lifetime),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity.client_id,
        }
        return Response(json.dumps(found), content_type="application/json")


def _refusal(status: int, message: str) -> Response:
    document = {"statusCode": status, "message": message}
    return Response(json.dumps(document), status, content_type="application/json")
