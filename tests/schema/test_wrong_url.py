"""An address at which something else answers than Dataverse: one sentence, and nothing is sent that could do harm."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from connector.dataverse import DataverseClient
from dataverse_schema.api import InstallError
from dataverse_schema.cli import signed_in

from .conftest import Token


class Elsewhere(HTTPAdapter):
    """Gives every request the same answer, and remembers their methods."""

    def __init__(self, status: int, kind: str, body: bytes) -> None:
        super().__init__()
        self._answer = status, kind, body
        self.methods: set[str] = set()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.methods.add(request.method or "")
        status, kind, body = self._answer
        answer = requests.Response()
        answer.status_code, answer._content, answer.url = status, body, request.url or ""
        answer.headers["Content-Type"] = kind
        answer.request = request
        return answer


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>A portal of the company</html>"),
        (404, "text/html", b"<html>not found</html>"),
        (404, "application/json", b'{"error": {"code": "0", "message": "no such thing"}}'),
        (200, "application/json", b'{"name": "another API"}'),
        (200, "application/json", b"[]"),
        (204, "text/html", b""),
    ],
    ids=["page", "no page", "no thing", "another API", "a list", "nothing"],
)
def test_what_is_not_dataverse_is_said_in_one_sentence(status: int, kind: str, body: bytes) -> None:
    elsewhere = Elsewhere(status, kind, body)
    with (
        DataverseClient("https://portal.contoso.com", Token("someone"), adapter=elsewhere, deadline=5) as client,
        pytest.raises(InstallError, match=r"no Dataverse\. Check DATAVERSE_URL") as refused,
    ):
        signed_in(client)
    assert "\n" not in str(refused.value)
    assert elsewhere.methods == {"GET"}
