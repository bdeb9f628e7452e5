"""People at their screens: when Dynamics does not answer they try again, and do not mind that it had been done already."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from connector.dataverse import (
    Create,
    DataverseClient,
    Delete,
    DuplicateKey,
    DuplicateRecord,
    NotFound,
    Terminal,
    Transient,
    Write,
)


class Steadfast:
    """Each thing is done in the end, however often it takes, and once: rows have ids before they are made."""

    def __init__(self, client: DataverseClient) -> None:
        self._client = client

    def commit(self, writes: Sequence[Write]) -> None:
        """One write at a time, as people do."""
        (write,) = writes
        try:
            _insisted(lambda: self._client.commit(writes))
        except (DuplicateRecord, DuplicateKey):
            if not isinstance(write, Create):
                raise
        except NotFound:
            if not isinstance(write, Delete):
                raise

    def get(self, path: str) -> Any:
        return _insisted(lambda: self._client.get(path))

    def request(self, method: str, path: str, body: Any) -> Any:
        """The action Merge: whether it has happened shows on the subordinate."""
        try:
            return _insisted(lambda: self._client.request(method, path, body, repeatable=True))
        except Terminal:
            table = body["Subordinate"]["@odata.type"].rpartition(".")[2]
            row = self.get(f"{table}s({body['Subordinate'][f'{table}id']})?$select=_masterid_value")
            if row["_masterid_value"] != body["Target"][f"{table}id"]:
                raise
            return None


def _insisted[T](work: Callable[[], T]) -> T:
    while True:
        try:
            return work()
        except Transient:
            time.sleep(0.5)
