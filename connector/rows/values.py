"""Reading values out of rows, with errors that name the column."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from connector.dataverse.odata import utc
from connector.loyalty.sentences import Sentence

type Row = Mapping[str, Any]


class Unusable(Exception):
    """A row from which nothing can be decided until somebody repairs it."""

    def __init__(self, sentence: Sentence, *, reason: str, field: str, next_step: Sentence) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.reason = reason
        self.field = field
        self.next_step = next_step


def moment(row: Row, column: str) -> datetime:
    return utc(row[column])


def day(row: Row, column: str) -> date | None:
    value = row.get(column)
    return date.fromisoformat(value[:10]) if value else None


def decimal(row: Row, column: str, default: Decimal | int = 0) -> Decimal:
    value = row.get(column)
    return Decimal(default) if value is None else Decimal(value)


def integer(row: Row, column: str, default: int = 0) -> int:
    value = row.get(column)
    return default if value is None else int(value)
