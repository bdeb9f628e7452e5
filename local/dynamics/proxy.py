"""Passes calls of the pages on to Dataverse as the signed-in user."""

import errno
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from werkzeug.wrappers import Request, Response

from connector.dataverse import TokenProvider

_UP = (
    "accept",
    "content-type",
    "prefer",
    "if-match",
    "if-none-match",
    "odata-version",
    "odata-maxversion",
    "consistency",
)
_DOWN = (
    "content-type",
    "odata-version",
    "odata-entityid",
    "location",
    "etag",
    "preference-applied",
    "retry-after",
    "date",
)
_TIMEOUT = 60


class Proxy:
    """`dataverse_url` is where the environment is; `url` is ours: answers name ours, as pages may call nothing else."""

    def __init__(self, dataverse_url: str, tokens: TokenProvider, ca_file: str, url: str) -> None:
        self._target = dataverse_url.rstrip("/")
        self._tokens = tokens
        self._ca_file = ca_file
        self._names = (self._target.encode(), url.encode())
        self._local = threading.local()

    def forward(self, request: Request, user: str) -> Response:
        """The answer of Dataverse. A connection that it loses is lost for the page as well."""
        headers = {name: value for name in _UP if (value := request.headers.get(name))}
        headers |= {"MSCRMCallerID": user, "Accept-Encoding": "identity"}
        token = self._tokens.token()
        answer = self._send(request, headers, token)
        if answer.status_code == requests.codes.unauthorized:
            answer = self._send(request, headers, self._tokens.renew(token))
        return self._answer(answer.status_code, answer.headers, answer.content)

    def _send(self, request: Request, headers: Mapping[str, str], token: str) -> requests.Response:
        target = urlsplit(request.environ.get("REQUEST_URI") or request.full_path)
        address = self._target + target.path + (f"?{target.query}" if target.query else "")
        try:
            return self._session().request(
                request.method,
                address,
                data=request.get_data() or None,
                headers={**headers, "Authorization": f"Bearer {token}"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
        except requests.ConnectionError as error:
            raise ConnectionResetError(errno.ECONNRESET, "Dataverse lost the connection") from error

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Response:
        theirs, ours = self._names
        kept = {name: headers[name].replace(theirs.decode(), ours.decode()) for name in _DOWN if name in headers}
        return Response(body.replace(theirs, ours), status, {**kept, "Cache-Control": "no-store"})

    def _session(self) -> requests.Session:
        """One a thread: a session of requests is not made for many."""
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.verify = self._ca_file
            session.trust_env = False
            session.mount("https://", HTTPAdapter(pool_maxsize=1))
            self._local.session = session
        found: requests.Session = self._local.session
        return found
