"""HTTP triggers and the admin endpoints, as a WSGI application called from many threads.

Keys come in `x-functions-key` (it wins) or `?code=`. `/admin/host/ping` is open; the rest of `/admin` wants the master
key: `POST /admin/functions/NAME` runs a function now, `GET /admin/host/status` and `GET /admin/counters` tell how it is.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from local.functions.bindings import HttpTrigger
from local.functions.invocations import Invocations
from local.functions.keys import Keys
from local.functions.routes import Route
from local.functions.values import TypedData, http_request, plain
from local.functions.worker import InvocationError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class HttpDoor:
    """`run_now(name, text)` starts a function that is not HTTP; it returns False if there is none of that name.

    `status()` answers the admin's questions.
    """

    def __init__(
        self,
        triggers: list[HttpTrigger],
        invocations: Invocations,
        keys: Keys,
        prefix: str,
        loop: asyncio.AbstractEventLoop,
        run_now: Callable[[str, str], bool],
        status: Callable[[], Mapping[str, object]],
    ) -> None:
        routes = [(Route(trigger.route), trigger) for trigger in triggers]
        self._routes = sorted(routes, key=lambda pair: pair[0].rank)
        self._invocations, self._keys, self._loop = invocations, keys, loop
        self._prefix = f"/{prefix}/" if prefix else "/"
        self._run_now, self._status = run_now, status

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        key = request.headers.get("x-functions-key") or request.args.get("code")
        if request.path.lower().startswith("/admin/"):
            return self._admin(request, key)
        if not request.path.lower().startswith(self._prefix.lower()):
            return Response(status=404)
        path = request.path[len(self._prefix) :].strip("/")
        for route, trigger in self._routes:
            params = route.match(path)
            if params is None or (trigger.methods and request.method not in trigger.methods):
                continue
            if trigger.disabled and not self._keys.is_master(key):
                return Response(status=404)
            if not self._allowed(trigger, key):
                return Response(status=401)
            return self._call(trigger, request, params)
        return Response(status=404)

    def _allowed(self, trigger: HttpTrigger, key: str | None) -> bool:
        match trigger.level:
            case "anonymous":
                return True
            case "admin":
                return self._keys.is_master(key)
            case _:
                return self._keys.opens(key, trigger.name)

    def _call(self, trigger: HttpTrigger, request: Request, params: Mapping[str, str]) -> Response:
        has_length = bool(request.content_length)  # the host hands over a body only with a Content-Length above 0
        data = http_request(
            request.method,
            request.url,
            {name: ",".join(request.headers.getlist(name)) for name in {n.lower() for n, _ in request.headers}},
            params,
            {name: ",".join(values) for name, values in request.args.lists()},
            request.get_data() if has_length else b"",
        )
        try:
            answer = self._in_loop(self._invocations.run(trigger.name, {trigger.argument: data})).result()
        except InvocationError:
            return Response(status=500)
        return _response(answer)

    def _admin(self, request: Request, key: str | None) -> Response:
        path = request.path.lower().rstrip("/")
        if path == "/admin/host/ping":
            return Response(status=200)
        if not self._keys.is_master(key):
            return Response(status=401)
        if path == "/admin/host/status" and request.method == "GET":
            return _json(dict(self._status()))
        if path == "/admin/counters" and request.method == "GET":
            functions = {name: figures.summary() for name, figures in self._invocations.figures.items()}
            return _json({"running": self._invocations.running, "functions": functions})
        if path.startswith("/admin/functions/") and request.method == "POST":
            try:
                document = json.loads(request.get_data() or b"{}")
            except ValueError:
                document = None
            if not isinstance(document, dict):
                return _json({"error": 'body: a JSON object such as {"input": ""} is expected'}, 400)
            name, text = request.path.rstrip("/").rpartition("/")[2], str(document.get("input") or "")

            async def start() -> bool:
                return self._run_now(name, text)

            return Response(status=202 if self._in_loop(start()).result() else 404)
        return Response(status=404)

    def _in_loop[T](self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _response(answer: TypedData | None) -> Response:
    value = plain(answer)
    if value is None:
        return Response(status=204)
    if isinstance(value, str | bytes):
        return Response(value, content_type="text/plain; charset=utf-8")
    if value.cookies:
        return Response("this host does not pass on cookies", 500, content_type="text/plain")
    headers = Headers(list(value.headers.items()))
    response = Response(plain(value.body) or b"", int(value.status_code))
    response.headers = headers
    return response


def _json(document: object, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")
