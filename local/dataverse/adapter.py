"""In-process door: a `requests` transport adapter that calls the application without a socket."""

import io
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from local.dataverse.app import Application, ConnectionLost
from local.dataverse.responses import REASONS


class DataverseAdapter(BaseAdapter):
    """`session.mount(url, DataverseAdapter(application))`."""

    def __init__(self, application: Application) -> None:
        super().__init__()
        self._application = application

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        body: Any = request.body or b""
        if hasattr(body, "read"):
            body = body.read()
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        data = body.encode() if isinstance(body, str) else bytes(body)
        try:
            answer = self._application.answer(request.method or "GET", request.url or "", headers, data)
        except ConnectionLost as error:
            raise requests.ConnectionError(error, request=request) from error
        response = requests.Response()
        response.status_code = answer.status
        response.reason = REASONS.get(answer.status, "")
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = HTTPResponse(body=io.BytesIO(answer.body), headers=answer.headers, status=answer.status,
                                    preload_content=False)  # fmt: skip
        response.url = request.url or ""
        response.request = request
        response.encoding = "utf-8"
        return response

    def close(self) -> None:
        """Nothing to close."""


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
