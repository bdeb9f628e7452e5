"""HTTP API for tills, shops and portals. Errors are problem documents (RFC 9457); `docs/openapi.json` describes it all."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import azure.functions as func
from pydantic import BaseModel, ValidationError

from connector.app import app
from connector.counter import LONGEST_WAIT, RedemptionRequest, Refused, VoidRequest
from connector.dataverse import Terminal, Transient
from connector.rows.values import Unusable

redemptions = func.Blueprint()
_log = logging.getLogger("loyalty.redemptions")

_KEY = re.compile(r"[\x21-\x7e]{8,100}")
_WAIT = re.compile(r"(?i)\bwait=(\d{1,4})\b")


@redemptions.function_name("PostRedemption")
@redemptions.route(route="redemptions", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def post_redemption(req: func.HttpRequest) -> func.HttpResponse:
    return _answered(lambda: _decided(app().counter.redeem(_body(req, RedemptionRequest), _key(req), _wait(req))))


@redemptions.function_name("PostVoid")
@redemptions.route(route="redemptions/{code}/void", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def post_void(req: func.HttpRequest) -> func.HttpResponse:
    code = req.route_params["code"]
    return _answered(lambda: _decided(app().counter.void(code, _body(req, VoidRequest), _key(req), _wait(req))))


@redemptions.function_name("GetRedemption")
@redemptions.route(route="redemptions/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def get_redemption(req: func.HttpRequest) -> func.HttpResponse:
    return _answered(lambda: _json(200, app().counter.redemption(req.route_params["id"])))


@redemptions.function_name("GetCustomer")
@redemptions.route(route="customers/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def get_customer(req: func.HttpRequest) -> func.HttpResponse:
    return _answered(lambda: _json(200, app().counter.customer(req.route_params["id"])))


def _answered(work: Callable[[], func.HttpResponse]) -> func.HttpResponse:
    """Every refusal as a problem document; nothing of our insides in it."""
    try:
        return work()
    except Refused as error:
        return _problem(error.status, error.code, error.detail, field=error.field)
    except Unusable as error:
        return _problem(409, error.reason, str(error), field=error.field)
    except Terminal:
        _log.exception("Dataverse refused")
        return _problem(502, "refused", "Dynamics refused the request; the log of the function app says why.")
    except Transient as error:
        retry_after = max(1, round(getattr(error, "retry_after", None) or 5))
        return _problem(
            503, "unavailable", "Dynamics does not answer at the moment.", headers={"Retry-After": str(retry_after)}
        )


def _decided(found: dict[str, Any]) -> func.HttpResponse:
    """201 for done, 202 for still waiting, 409 with the reason for a rejection."""
    location = {"Location": f"/api/redemptions/{found['id']}"}
    match found["status"]:
        case "requested":
            return _json(202, found, {**location, "Retry-After": "1"})
        case "rejected":
            return _problem(409, found["reason_code"], found["reason"], headers=location, redemption=found)
        case _:
            return _json(201, found, location)


def _body[B: BaseModel](req: func.HttpRequest, shape: type[B]) -> B:
    try:
        return shape.model_validate_json(req.get_body() or b"")
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in fault["loc"])[:100]  # an unknown field's name is the sender's own text
        message = fault["msg"].removeprefix("Value error, ")
        raise Refused(400, "invalid_body", f"{field or 'body'}: {message}", field or "body") from None


def _key(req: func.HttpRequest) -> str:
    key = str(req.headers.get("Idempotency-Key", ""))
    if not _KEY.fullmatch(key):
        detail = "Idempotency-Key: 8 to 100 printable characters without blanks, chosen anew for each purchase"
        raise Refused(400, "idempotency_key", detail, "Idempotency-Key")
    return key


def _wait(req: func.HttpRequest) -> float:
    """Seconds to wait for the answer: `Prefer: wait=10` (RFC 7240). Without it, not at all."""
    found = _WAIT.search(req.headers.get("Prefer", ""))
    return min(float(found.group(1)), LONGEST_WAIT) if found else 0.0


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(body), status_code=status, headers=headers, mimetype="application/json")


def _problem(
    status: int, code: str, detail: str, *, field: str = "", headers: dict[str, str] | None = None, **more: Any
) -> func.HttpResponse:
    titles = {400: "Bad request", 404: "Not found", 409: "Rejected", 422: "Idempotency key reused"}
    titles |= {502: "Refused", 503: "Unavailable"}
    body = {"type": f"urn:loyalty:{code}", "title": titles[status], "status": status, "code": code, "detail": detail}
    if field:
        body["field"] = field
    return func.HttpResponse(
        json.dumps(body | more), status_code=status, headers=headers, mimetype="application/problem+json"
    )
