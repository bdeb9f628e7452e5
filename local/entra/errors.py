"""Entra's answers to what it refuses: OAuth error, AADSTS code, wording, HTTP status."""

import datetime
import json
import uuid

from werkzeug.wrappers import Response


class Refused(Exception):
    """A request that Entra answers with an error document."""

    def __init__(self, error: str, code: int, text: str, status: int = 400) -> None:
        super().__init__(f"AADSTS{code}: {text}")
        self.error, self.code, self.text, self.status = error, code, text, status

    def response(self, base: str, now: datetime.datetime) -> Response:
        """The document as Entra words it; `base` is this authority's address, for `error_uri`."""
        moment, trace, correlation = now.strftime("%Y-%m-%d %H:%M:%SZ"), str(uuid.uuid4()), str(uuid.uuid4())
        document = {
            "error": self.error,
            "error_description": f"AADSTS{self.code}: {self.text} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {moment}",
            "error_codes": [self.code],
            "timestamp": moment,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{base}/error?code={self.code}",
        }
        return Response(
            json.dumps(document),
            self.status,
            {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "x-ms-request-id": trace},
            content_type="application/json; charset=utf-8",
        )


def unknown_tenant(tenant: str, error: str = "invalid_request") -> Refused:
    return Refused(
        error,
        90002,
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
        "correct cloud. Check with your subscription administrator, this may happen if there are no active "
        "subscriptions for the tenant.",
    )


def unknown_client(client_id: str, tenant: str) -> Refused:
    return Refused(
        "unauthorized_client",
        700016,
        f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You may have sent your authentication request to the wrong tenant.",
    )


def wrong_secret(client_id: str) -> Refused:
    return Refused(
        "invalid_client",
        7000215,
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not "
        f"the client secret ID, for a secret added to app '{client_id}'.",
        401,
    )


def missing_secret() -> Refused:
    return Refused(
        "invalid_client",
        7000216,
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
        401,
    )


def missing_parameter(name: str) -> Refused:
    return Refused("invalid_request", 900144, f"The request body must contain the following parameter: '{name}'.")


def unsupported_grant(grant: str) -> Refused:
    return Refused("unsupported_grant_type", 70003, f"The app requested an unsupported grant type '{grant}'.")


def invalid_scope(scope: str) -> Refused:
    return Refused(
        "invalid_scope",
        70011,
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter "
        f"'scope' is not valid. The scope {scope} is not valid.",
    )


def unknown_resource(resource: str, tenant: str) -> Refused:
    return Refused(
        "invalid_resource",
        500011,
        f"The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You might have sent your authentication request to the wrong tenant.",
    )


def malformed_assertion(why: str) -> Refused:
    return Refused("invalid_client", 50027, f"JWT token is invalid or malformed: {why}.", 401)


def unknown_certificate(client_id: str) -> Refused:
    return Refused(
        "invalid_client",
        700027,
        "The certificate with identifier used to sign the client assertion is not registered on application "
        f"'{client_id}', or the signature does not fit.",
        401,
    )


def other_assertion(client_id: str) -> Refused:
    return Refused(
        "invalid_client",
        700021,
        f"Client assertion application identifier doesn't match 'client_id' parameter '{client_id}'.",
        401,
    )


def assertion_for_another(audience: str) -> Refused:
    return Refused(
        "invalid_client", 700023, f"Client assertion audience claim '{audience}' does not match Realm issuer.", 401
    )


def assertion_out_of_time(now: datetime.datetime) -> Refused:
    return Refused(
        "invalid_client",
        700024,
        f"Client assertion is not within its valid time range. Current time: {now:%Y-%m-%dT%H:%M:%SZ}.",
        401,
    )
