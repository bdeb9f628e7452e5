"""Customers as keys, and ids that come out the same however often they are made."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from uuid import UUID, uuid5

NAMESPACE = UUID("0f5e8f3a-7a11-5c6e-9c1e-5b0e0c5a1d0c")
PARTITIONS = 256
_KEY = re.compile(r"(account|contact):([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Customer:
    """An account or a contact, written `account:<id>` or `contact:<id>`."""

    table: str
    id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError unless the text is a customer key."""
        found = _KEY.fullmatch(text.strip().lower())
        if not found:
            raise ValueError(f"not a customer (account:<id> or contact:<id>): {text[:60]!r}")
        return cls(*found.groups())

    def __str__(self) -> str:
        return f"{self.table}:{self.id}"

    @property
    def entity_set(self) -> str:
        return f"{self.table}s"

    @property
    def membership_id(self) -> str:
        return _membership_id(self.table, self.id)

    @property
    def partition(self) -> int:
        """The first byte of the membership's id: mass jobs share out the customers by it."""
        return int(self.membership_id[:2], 16)


@lru_cache(maxsize=8192)
def _membership_id(table: str, row_id: str) -> str:
    return derived_id(f"{table}:{row_id}")


def derived_id(*parts: str) -> str:
    """A row id that follows from what the row stands for: a retry meets the row it made before."""
    return str(uuid5(NAMESPACE, "|".join(parts)))
