"""One HTTP exchange with Dataverse: a ``Part`` goes out, a ``Response`` comes back or a ``DataverseError`` is raised."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.exceptions import MaxRetryError, NewConnectionError

from .auth import TokenProvider
from .errors import DataverseError, OutcomeUnknown, Terminal, Transient, error_from
from .odata import MAX_URL, Part, Response

API = "/api/data/v9.2/"
CONNECT_TIMEOUT = 5.0
FIRST_PARALLELISM = 4  # before the service recommends one: as many running all the time use up 1,200 s in 300 s
_BUDGET = {
    "requests": "x-ms-ratelimit-burst-remaining-xrm-requests",
    "seconds": "x-ms-ratelimit-time-remaining-xrm-requests",
}


class Pressure:
    """What the service has told us about its load. Shared by all threads of a client."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._not_before = float("-inf")
        self._recommended = FIRST_PARALLELISM
        self._allowed = float("inf")
        self.budget: dict[str, float] = {}

    @property
    def parallelism(self) -> int:
        """Requests at once: what the service recommends (``x-ms-dop-hint``), fewer while it refuses for load."""
        return max(1, int(min(self._recommended, self._allowed)))

    def observe(self, response: Response) -> None:
        """Learn from an answer: how many requests at once, and a pause for everybody after a throttled one."""
        hint = response.headers.get("x-ms-dop-hint", "")
        if hint.isdecimal() and int(hint) > 0:
            self._recommended = int(hint)
        for name, header in _BUDGET.items():
            left = _amount(response.headers.get(header, ""))
            if left is not None:
                self.budget[name] = left
        pause = retry_after(response)
        with self._lock:
            if response.status == 429:
                if not self.remaining():  # requests that were refused together are one refusal
                    self._allowed = max(1.0, self.parallelism / 2)
            else:
                self._allowed += 1 / self._allowed
                if self._allowed >= self._recommended:
                    self._allowed = float("inf")
            if pause is not None and response.status in (429, 503):
                self._not_before = max(self._not_before, self._clock() + pause)

    def remaining(self) -> float:
        """Seconds until the next request may be sent; 0 if now."""
        return max(0.0, self._not_before - self._clock())

    def wait(self, deadline: float) -> None:
        """Return when a request may be sent. ``Transient`` at once if that is only after ``deadline``.

        Requests sent during the pause would lengthen it.
        """
        while (pause := self.remaining()) > 0:
            if self._clock() + pause > deadline:
                raise Transient(f"Dataverse asked for a pause of another {pause:.0f} s", status=429, retry_after=pause)
            self._sleep(pause)


class Counters:
    """What a client has done so far: for summaries and benchmarks. ``batches`` tells how many held how many units."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = self.operations = self.bytes_sent = self.bytes_received = self.retries = 0
        self.batches: Counter[int] = Counter()

    def request(self, sent: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes_sent += sent

    def answer(self, received: int) -> None:
        with self._lock:
            self.bytes_received += received

    def work(self, operations: int, units: int = 0) -> None:
        with self._lock:
            self.operations += operations
            if units:
                self.batches[units] += 1

    def retry(self) -> None:
        with self._lock:
            self.retries += 1

    def snapshot(self) -> dict[str, Any]:
        """All of them by name, from one moment."""
        with self._lock:
            found = {name: value for name, value in vars(self).items() if not name.startswith("_")}
            return found | {"batches": dict(sorted(self.batches.items()))}


class Transport:
    """``requests`` with what every Dataverse call needs, and nothing that a call could remember."""

    def __init__(
        self,
        url: str,
        tokens: TokenProvider,
        *,
        ca_file: str | None = None,
        connections: int = 8,
        adapter: BaseAdapter | None = None,
        pressure: Pressure | None = None,
        counters: Counters | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"url: {url!r} is not the https URL of an environment")
        self.origin = f"https://{parts.netloc}"
        self.pressure = pressure or Pressure()
        self.counters = counters or Counters()
        self._tokens = tokens
        self._session = session = requests.Session()
        pool = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
        session.mount("https://", adapter or pool)
        # A kept affinity cookie would bind us to one web server, and limits count for each server.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Read the proxies once; otherwise each request searches the environment and .netrc.
        session.trust_env = False
        session.proxies = dict(get_environ_proxies(self.origin))
        session.verify = ca_file or True
        session.headers.clear()
        session.headers.update(
            {
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "OData-MaxVersion": "4.0",
                "OData-Version": "4.0",
                "User-Agent": "loyalty-connector",
            }
        )

    def send(self, part: Part, *, timeout: float) -> Response:
        """Send ``part`` and return its answer, which is a success or a multipart one.

        ``timeout`` is in seconds, for each wait on the socket. A 401 is answered with one renewed token.
        Raises ``DataverseError``; ``OutcomeUnknown`` if anything but a GET may have been executed.
        """
        url = self.url(part.path)
        if part.method == "GET" and len(url) > MAX_URL:
            raise ValueError(f"path: {len(url)} characters, Dataverse reads at most {MAX_URL} outside a batch")
        token = self._tokens.token()
        response = self._exchange(part, url, token, timeout)
        if response.status == 401:
            response = self._exchange(part, url, self._tokens.renew(token), timeout)
        if response.status >= 300 and not response.headers.get("content-type", "").startswith("multipart/"):
            raise error_of(response, part)
        return response

    def url(self, path: str) -> str:
        """The absolute URL of a path. ``Terminal`` for one of another environment: it gets no token of ours."""
        if not absolute(path):
            return f"{self.origin}{API}{path}"
        if _server(path) != _server(self.origin):
            raise Terminal(f"a link leads away from {self.origin}")
        return path

    def close(self) -> None:
        self._session.close()

    def _exchange(self, part: Part, url: str, token: str, timeout: float) -> Response:
        headers = dict(part.headers) | {"Authorization": f"Bearer {token}"}
        if part.method == "GET":
            headers.setdefault("If-None-Match", "null")
        body = None if part.body is None else part.body.encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        self.counters.request(len(body or b""))
        try:
            answer = self._session.request(
                part.method, url, data=body, headers=headers, timeout=(CONNECT_TIMEOUT, timeout), allow_redirects=False
            )
        except requests.RequestException as error:
            raise _lost(error, part) from None  # the original quotes the URL with its query
        response = Response(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
        )
        self.counters.answer(len(response.body))
        self.pressure.observe(response)
        return response


def absolute(path: str) -> bool:
    """Whether this is a whole URL, as next links are."""
    return "://" in path.partition("?")[0]


def _server(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or 443


def error_of(response: Response, part: Part) -> DataverseError:
    """The exception for an error answer to ``part``."""
    code, message = "", ""
    try:
        found = json.loads(response.body)["error"]
        code, message = found.get("code") or "", str(found.get("message") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # a gateway's HTML page, or nothing: the status has to do
    conditions = {name.lower(): value for name, value in part.headers}
    request_id = (response.headers.get(name, "") for name in ("x-ms-service-request-id", "req_id", "x-ms-request-id"))
    return error_from(
        response.status,
        code,
        message[:4000] or "Dataverse gave no reason",
        request_id=next(filter(None, request_id), ""),
        retry_after=retry_after(response),
        operation=operation(part),
        writes=part.method != "GET",
        if_match=conditions.get("if-match", ""),
        if_none_match=conditions.get("if-none-match", ""),
    )


def operation(part: Part) -> str:
    """A part as messages name it; without the query, which may quote somebody's data."""
    return f"{part.method} {part.path.partition('?')[0]}"


def retry_after(response: Response) -> float | None:
    """The wait in seconds that the server asks for. Dataverse sends a number, never a date."""
    seconds = _amount(response.headers.get("retry-after", ""))
    return None if seconds is None else min(seconds, 3600.0)


def _amount(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _lost(error: requests.RequestException, part: Part) -> DataverseError:
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Terminal("the server's certificate is not trusted", operation=operation(part))
    cause = error.args[0] if error.args else None
    refused = isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
    unsent = refused or isinstance(error, requests.ConnectTimeout)
    kind: type[Transient] = Transient if unsent or part.method == "GET" else OutcomeUnknown
    what = "no connection to Dataverse" if unsent else "no answer from Dataverse"
    reason = getattr(cause, "reason", None) or cause or error
    return kind(f"{what}: {type(error).__name__}, {type(reason).__name__}", operation=operation(part))
