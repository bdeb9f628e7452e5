"""The door to Dataverse for the rest of the connector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from .auth import TokenProvider
from .odata import Get, Row, Write


class DataverseClient:
    """Reads and writes one environment. One instance a process, shared by all threads."""

    def __init__(
        self, url: str, tokens: TokenProvider, *, ca_file: str | None = None, slots: int = 4, deadline: float = 25.0
    ) -> None:
        raise NotImplementedError

    def read(self, *gets: Get) -> list[Any]:
        """One result for each: a row (dict), rows (list of dicts, all pages), or None where there is none."""
        raise NotImplementedError

    def get(self, path: str, *, annotations: str = "") -> Any:
        """``read`` for one path."""
        raise NotImplementedError

    def commit(self, writes: Sequence[Write]) -> list[str | None]:
        """One change set, all or nothing. The id of each written row where Dataverse tells it."""
        raise NotImplementedError

    def pages(self, path: str, *, max_page_size: int = 5000, annotations: str = "") -> Iterator[list[Row]]:
        raise NotImplementedError

    def create_multiple(self, entity_set: str, table: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        raise NotImplementedError

    def update_multiple(self, entity_set: str, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        raise NotImplementedError

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Any other call, for example on definitions: ``.status``, ``.headers``, ``.json()``."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
