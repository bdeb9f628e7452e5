"""The shell as a WSGI application: sign-in, its own pages, metadata, web resources, and `/api/data` for all of them."""

import json
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.exceptions import Forbidden, HTTPException, NotFound, Unauthorized
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from dataverse_schema.api import WebApi
from local.dynamics import people
from local.dynamics.metadata import Metadata
from local.dynamics.pages import POLICY, WebResources
from local.dynamics.proxy import Proxy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_FILES = Path(__file__).parent / "shell"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_COOKIE = "dynamics"
_LANGUAGES = (1033, 1031)


@dataclass(frozen=True)
class _Session:
    """A signed-in user and the language they chose; Dynamics keeps that in their personal options."""

    user: str
    lcid: int


class DynamicsApp:
    """`api` reads metadata as the platform does; `proxy` carries the user's calls. Sessions live as long as the process."""

    def __init__(self, api: WebApi, proxy: Proxy, url: str) -> None:
        self._api = api
        self._proxy = proxy
        self._host = urlsplit(url).netloc
        self._metadata = {lcid: Metadata(api, lcid) for lcid in _LANGUAGES}
        self._resources = WebResources(api)
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._urls = Map(
            [
                Rule("/", endpoint=self._home),
                Rule("/main.aspx", endpoint=self._main),
                Rule("/signin", endpoint=self._sign_in, methods=["GET", "POST"]),
                Rule("/signout", endpoint=self._sign_out, methods=["POST"]),
                Rule("/shell/people", endpoint=self._people),
                Rule("/shell/me", endpoint=self._me),
                Rule("/shell/table/<name>", endpoint=self._table),
                Rule("/shell/<path:name>", endpoint=self._file),
                Rule("/WebResources/<path:name>", endpoint=self._web_resource),
                Rule("/<version>/WebResources/<path:name>", endpoint=self._web_resource),
            ]
        )

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = Response(error.description, error.code or 500, content_type="text/plain; charset=utf-8")
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            self._require_same_origin(request)
        if request.path.startswith("/api/data/"):
            return self._proxy.forward(request, self._session(request).user)
        endpoint, arguments = self._urls.bind_to_environ(request.environ).match()
        response: Response = endpoint(request, **arguments)
        return response

    def _require_same_origin(self, request: Request) -> None:
        origin = request.headers.get("Origin")
        if origin and urlsplit(origin).netloc != self._host:
            raise Forbidden("The request comes from another site.")

    def _session(self, request: Request) -> _Session:
        session = self._sessions.get(request.cookies.get(_COOKIE, ""))
        if session is None:
            raise Unauthorized("Sign in first.")
        return session

    # pages

    def _home(self, request: Request) -> Response:
        return redirect("/main.aspx")

    def _main(self, request: Request) -> Response:
        if request.cookies.get(_COOKIE, "") not in self._sessions:
            return redirect("/signin")
        return self._page("main.html")

    def _sign_in(self, request: Request) -> Response:
        if request.method == "GET":
            return self._page("signin.html")
        user = request.form.get("user", "")
        lcid = int(request.form.get("lcid") or 0)
        if user not in {person.id for person in people.people(self._api)} or lcid not in _LANGUAGES:
            raise Forbidden("user: choose one of the list.")
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[key] = _Session(user, lcid)
        response = redirect("/main.aspx", 303)
        response.set_cookie(_COOKIE, key, secure=True, httponly=True, samesite="Strict")
        return response

    def _sign_out(self, request: Request) -> Response:
        with self._lock:
            self._sessions.pop(request.cookies.get(_COOKIE, ""), None)
        response = redirect("/signin", 303)
        response.delete_cookie(_COOKIE)
        return response

    def _file(self, request: Request, name: str) -> Response:
        if name not in {path.name for path in _FILES.iterdir()}:
            raise NotFound(f"There is no file {name}.")
        return self._page(name)

    def _page(self, name: str) -> Response:
        path = _FILES / name
        response = Response(path.read_bytes(), content_type=f"{_TYPES[path.suffix]}; charset=utf-8")
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response

    def _web_resource(self, request: Request, name: str, version: str = "") -> Response:
        self._session(request)
        return self._resources.answer(request, name, versioned=version.startswith("{") and version.endswith("}"))

    # data for the shell's own script

    def _people(self, request: Request) -> Response:
        found = people.people(self._api)
        return _json([{"id": person.id, "name": person.name, "roles": person.roles} for person in found])

    def _me(self, request: Request) -> Response:
        session = self._session(request)
        person = people.person(self._api, session.user)
        return _json(
            {
                "id": person.id,
                "name": person.name,
                "roles": person.roles,
                "lcid": session.lcid,
                "areas": self._metadata[session.lcid].navigation(person),
                "version": self._resources.version(),
            }
        )

    def _table(self, request: Request, name: str) -> Response:
        session = self._session(request)
        person = people.person(self._api, session.user)
        try:
            return _json(self._metadata[session.lcid].table(name, person))
        except LookupError:
            raise NotFound(f"There is no table {name}.") from None


def _json(value: object) -> Response:
    return Response(
        json.dumps(value), content_type="application/json; charset=utf-8", headers={"Cache-Control": "no-store"}
    )
