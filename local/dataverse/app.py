"""The WSGI application: authentication, impersonation, limits, faults, batches; and the admin endpoint beside it."""

import contextlib
import errno
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from cheroot.errors import MaxSizeExceeded

from local.dataverse import batch, loc_labels, merging, metadata_actions, metadata_query, role_actions  # noqa: F401 - they register their actions
from local.dataverse.auth import Identity, Unauthorized
from local.dataverse.environment import Environment
from local.dataverse.errors import Fault, bad_request, no_route, request_too_long
from local.dataverse.responses import REASONS, Response, error, json_body, request_id
from local.dataverse.security import Caller, require_special
from local.dataverse.service import LONGEST_BATCH_URL, LONGEST_URL, Request, Service
from local.dataverse.values import guid
from local.solutions import actions as _solutions  # noqa: F401 - registers its actions

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)
Authenticate = Callable[[str | None], Identity]
LARGEST_BODY = 128 * 1024 * 1024
_LARGE_BODY = 16 * 1024 * 1024  # bodies that are or may be longer take turns, so that memory stays bounded
_API = re.compile(r"/api/data/v(?:8\.[0-2]|9\.[0-2])(?:/(.*))?", re.DOTALL)


class ConnectionLost(ConnectionResetError):
    """The connection ends without an answer (a fault that was asked for)."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "connection lost on purpose")


class Application:
    """WSGI. `url` is the environment's address, `authorization_uri` what a 401 points to."""

    def __init__(self, env: Environment, authenticate: Authenticate, *, url: str, authorization_uri: str = "") -> None:
        self.env = env
        self.service = Service(env)
        self.url = url.rstrip("/")
        self._authenticate = authenticate
        self._large = threading.Lock()
        self._authorization_uri = authorization_uri

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = LARGEST_BODY if chunked else int(environ.get("CONTENT_LENGTH") or "0")
        with self._large if length > _LARGE_BODY else contextlib.nullcontext():
            try:
                body = _chunks(environ["wsgi.input"]) if chunked else _body(environ["wsgi.input"], length)
                target = environ.get("REQUEST_URI") or _target(environ)
                response = self.answer(environ["REQUEST_METHOD"], target, headers, body)
                del body
            except Fault as fault:
                response = error(fault)
        sent = [*response.headers.items(), ("Content-Length", str(len(response.body)))]
        start_response(f"{response.status} {REASONS.get(response.status, 'Unknown')}", sent)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Response:
        """One HTTP request. `target` is path and query as sent; `headers` have lower-case names."""
        target = re.sub(r"^https?://[^/]+", "", target)
        path, _, query = target.partition("?")
        if path.startswith("/admin/"):
            return self._admin(method, path, body)
        found = _API.fullmatch(path)
        if found is None:
            return error(no_route(target[:200]))
        started = request_id()
        try:
            response = self._api(method, found[1] or "", query, headers, body, started)
        except Unauthorized:
            challenge = f"Bearer authorization_uri={self._authorization_uri}, resource_id={self.url}/"
            response = Response(401, b"", {"WWW-Authenticate": challenge})
        except Fault as fault:
            response = error(fault)
        except (ConnectionLost, KeyboardInterrupt, SystemExit):
            raise
        except Exception:
            log.exception("request %s: %s %s", started, method, path[:200])
            response = error(Fault(500, "0x80040216", "An unexpected error occurred."))
        response.headers["REQ_ID"] = started
        response.headers["x-ms-service-request-id"] = started
        self.env.meter.status(response.status)
        if self.env.faults.strikes("answer_lost"):
            raise ConnectionLost
        return response

    def _api(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes, started: str) -> Response:
        identity = self._authenticate(headers.get("authorization"))
        user = self.env.user_of(identity.application, identity.object_id)
        if user is None:
            raise Fault(403, "0x80072560", "The user is not a member of the organization.")
        limit = LONGEST_URL
        if len(path) + len(query) > limit:
            raise Fault(400, "0x80060888", "The request URL is too long.")
        meter, now = self.env.meter, time.monotonic()
        meter.enter(user, now)
        seconds = 0.0
        try:
            if self.env.faults.active:
                self._strike()
            caller = self._caller(self.env.caller(user), headers)
            base = f"{self.url}/api/data/v9.2"
            request = Request(method, path, query, headers, body, base, caller, started)
            if path == "$batch":
                response = batch.run(self.env, self.service, request, lambda part: self._part(request, user, part))
            else:
                response = self.service.handle(request)
            seconds = request.seconds
        finally:
            left = meter.leave(user, time.monotonic(), seconds)
        response.headers |= left
        response.headers["x-ms-dop-hint"] = str(meter.dop_hint)
        return response

    def _part(self, outer: Request, user: str, part: batch.Part) -> Request:
        """The request of one operation of a batch."""
        target = batch.relative(part.target)
        path, _, query = target.partition("?")
        if len(target) > LONGEST_BATCH_URL:
            raise Fault(400, "0x80060888", "The request URL is too long.")
        if path == "$batch":
            raise Fault(400, "0x80048d19", "A batch must not hold another batch.")
        caller = outer.caller
        if "callerobjectid" in part.headers or "mscrmcallerid" in part.headers:
            caller = self._caller(self.env.caller(user), part.headers)
        return Request(part.method, path, query, part.headers, part.body, outer.base, caller, outer.request_id)

    def _caller(self, caller: Caller, headers: dict[str, str]) -> Caller:
        """The user that the request runs as: the caller, or one it may act for."""
        by_object, by_id = headers.get("callerobjectid"), headers.get("mscrmcallerid")
        if not by_object and not by_id:
            return caller
        try:
            require_special(caller, "prvActOnBehalfOfAnotherUser")
        except Fault:
            raise Fault(403, "0x8004a110", "User does not have the privilege to act on behalf another user.") from None
        user = self.env.user_of(None, guid(by_object)) if by_object else guid(by_id)
        if user is None:
            raise Fault(403, "0x8004a110", "The user to act for was not found in the organization.")
        return self.env.caller(user).restricted_to(caller)

    def _strike(self) -> None:
        faults = self.env.faults
        if faults.strikes("delay"):
            time.sleep(faults.dials.delay_seconds)
        if faults.strikes("connection_lost"):
            raise ConnectionLost
        if faults.strikes("unavailable"):
            raise Fault(503, "0x80072324", "The service is unavailable.", retry_after=1)
        if faults.strikes("gateway"):
            raise Fault(502, "", "Bad gateway.")
        if faults.strikes("throttled"):
            raise Fault(429, "0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
                        retry_after=1)  # fmt: skip

    # --- the admin endpoint: not part of Dataverse ---

    def _admin(self, method: str, path: str, body: bytes) -> Response:
        """GET shows, POST changes: counters, faults, limits, health."""
        env = self.env
        name = path.removeprefix("/admin/")
        try:
            given: Any = json.loads(body) if body.strip() else {}
            if not isinstance(given, dict):
                raise ValueError
        except ValueError:
            return error(Fault(400, "", "The body must be a JSON object."))
        try:
            if name == "health":
                return json_body({"ok": True})
            if name == "counters":
                if method == "POST":
                    env.meter.reset()
                return json_body(env.meter.counters() | {
                    "outbox": env.outbox.length(), "events_queued": env.events.queued,
                    "events_delivered": env.outbox.delivered, "events_failed": env.outbox.failed,
                })  # fmt: skip
            if name == "rows":
                reader = env.storage.reader
                return json_body({
                    table: reader.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in sorted(env.schema.tables)
                })  # fmt: skip
            if name == "faults":
                if method == "POST":
                    env.faults.set(given)
                return json_body(env.faults.state())
            if name == "limits":
                if method == "POST":
                    env.meter.configure(given)
                meter = env.meter
                return json_body({"enforced": meter.enforced, "scale": meter.scale, "servers": meter.servers,
                                  "dop_hint": meter.dop_hint})  # fmt: skip
        except Fault as fault:
            return error(fault)
        return error(no_route(path))


def _body(stream: Any, length: int) -> bytes:
    """A body of declared length."""
    if length > LARGEST_BODY:
        raise request_too_long()
    if length < 0:
        raise bad_request("Content-Length must not be negative.")
    body: bytes = stream.read(length) if length else b""
    if len(body) < length:
        raise bad_request("The request ended before its body did.")
    return body


def _chunks(stream: Any) -> bytes:
    """A body in chunks, piece by piece: the server's reader takes quadratic time for a whole one."""
    stream.maxlen = LARGEST_BODY  # cheroot's reader then refuses what is longer, a single chunk included
    pieces = []
    try:
        while piece := stream.read(1 << 20):
            pieces.append(piece)
    except (MaxSizeExceeded, OSError):
        raise request_too_long() from None
    except ValueError:
        raise bad_request("The chunks of the body are malformed.") from None
    return b"".join(pieces)


def _target(environ: "WSGIEnvironment") -> str:
    """Path and query when the server does not hand on what was sent."""
    from urllib.parse import quote

    path = quote(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""), safe="/()'$=,:;@!*~&+")
    return path + ("?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else "")
