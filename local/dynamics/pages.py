"""Web resources out of their rows, under the paths and with the headers of Dynamics."""

import base64
import hashlib
import threading
import time

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Request, Response

from dataverse_schema.api import WebApi, text

_TYPES = {
    1: "text/html; charset=utf-8",
    2: "text/css; charset=utf-8",
    3: "text/javascript; charset=utf-8",
    4: "text/xml; charset=utf-8",
    5: "image/png",
    6: "image/jpeg",
    7: "image/gif",
    10: "image/vnd.microsoft.icon",
    11: "image/svg+xml",
    12: "text/xml; charset=utf-8",
}
_LOOK_SECONDS = 1.0
# The strict content security policy that an administrator of Dynamics can choose.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' blob: data: wss:; "
    "img-src 'self' blob: data:; font-src 'self' data:; frame-src 'self' blob:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self' https://*.powerapps.com"
)


class WebResources:
    """Kept in memory until any of them changes, which is looked for once a second: twenty files of one page stay cheap."""

    def __init__(self, api: WebApi) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[bytes, str, str]] = {}
        self._version = ""
        self._looked_at = 0.0

    def answer(self, request: Request, name: str, *, versioned: bool) -> Response:
        """A versioned address never changes its content, so that the browser need not ask again."""
        body, media_type, tag = self._read(name)
        response = Response(body, content_type=media_type)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if versioned else "private, no-cache"
        response.set_etag(tag)
        return response.make_conditional(request)

    def version(self) -> str:
        """A mark that changes with any web resource; part of versioned addresses."""
        rows = self._api.rows("webresourceset?$select=versionnumber&$orderby=versionnumber desc&$top=1")
        return f"{int(rows[0]['versionnumber']):018}" if rows else "0" * 18

    def _read(self, name: str) -> tuple[bytes, str, str]:
        with self._lock:
            if time.monotonic() - self._looked_at > _LOOK_SECONDS:
                version = self.version()
                if version != self._version:
                    self._rows.clear()
                self._version, self._looked_at = version, time.monotonic()
            if name not in self._rows:
                self._rows[name] = self._fetch(name)
            return self._rows[name]

    def _fetch(self, name: str) -> tuple[bytes, str, str]:
        rows = self._api.rows(f"webresourceset?$select=content,webresourcetype&$filter=name eq {text(name)}")
        if not rows:
            raise NotFound(f"There is no web resource {name}.")
        body = base64.b64decode(rows[0]["content"] or "")
        return body, _TYPES[rows[0]["webresourcetype"]], hashlib.sha256(body).hexdigest()[:32]
