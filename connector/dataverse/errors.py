"""What Dataverse can answer instead of a result, as one exception tree.

``Transient`` means the same request may succeed later; ``Terminal`` means it never will as it stands. Only the retry
layer of the client looks at the difference; everybody else catches the named classes.
"""

from __future__ import annotations

import re
from typing import Any, Self


class DataverseError(Exception):
    """An answer that is not a result.

    ``status`` is the HTTP status, or 0 when no answer arrived. ``code`` is Dataverse's code as an unsigned number
    (0 when the body had none); ``hex_code`` spells it as the documentation does. ``operation`` is the method and path
    of the failing operation where it is known: in a change set that is the write that undid the others.
    """

    def __init__(
        self, message: str, *, status: int = 0, code: int = 0, request_id: str = "", operation: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.operation = operation

    @property
    def hex_code(self) -> str:
        return f"0x{self.code:08X}" if self.code else ""

    def __str__(self) -> str:
        context = [f"HTTP {self.status}" if self.status else "", self.hex_code, self.operation]
        context.append(f"request {self.request_id}" if self.request_id else "")
        known = ", ".join(part for part in context if part)
        return f"{self.message} ({known})" if known else self.message

    def fresh(self) -> Self:
        """A copy without traceback: an exception object belongs to one thread."""
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__)
        return copy


class Transient(DataverseError):
    """The same request may succeed later.

    ``retry_after`` is the wait in seconds that the server asked for, if it did. ``repeats`` bounds how often repeating
    makes sense (None: as long as the deadline allows).
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, repeats: int | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after
        self.repeats = repeats


class OutcomeUnknown(Transient):
    """A write was sent and its answer lost: it may or may not have happened.

    Repeating is safe where the write is a compare-and-set (an append under an alternate key, a row with an id of our
    choosing, an absolute value): if the first attempt did happen, the repetition meets it as a ``Conflict``.
    """


class Terminal(DataverseError):
    """The request cannot succeed as it stands."""


class BadRequest(Terminal):
    """Dataverse does not accept the request. ``field`` names the column at fault where the message does."""

    @property
    def field(self) -> str:
        found = _FIELD.search(self.message)
        return next((name for name in found.groups() if name), "") if found else ""


class Unauthorized(Terminal):
    """No acceptable token, even after renewing it once."""


class Forbidden(Terminal):
    """The application user may not do this. The message names the missing privilege."""


class NotFound(Terminal):
    """The row, or the table, does not exist."""


class Conflict(Terminal):
    """A precondition did not hold: read again and decide again."""


class DuplicateKey(Conflict):
    """A row with these alternate key values exists. ``key`` is the name of the key where the message gives it."""

    @property
    def key(self) -> str:
        found = _KEY.search(self.message)
        return found.group(1) if found else ""


class DuplicateRecord(Conflict):
    """A row with this id exists."""


class ConcurrencyMismatch(Conflict):
    """The row changed since the version named in ``If-Match`` was read."""


_KEY = re.compile(r"Entity Key (.+?) violated")
_FIELD = re.compile(
    r"property named '([^']+)'|property '([^']+)'|'([^']+)' attribute|attribute '([^']+)'|undeclared property '([^']+)'"
    r"|value(?: \S+)? of '([^']+)'|[Ff]ield '([^']+)'"
)

SQL_TIMEOUT = 0x80044151

# (status, code) -> how often repeating makes sense; None in a pair matches anything, None as value means until the
# deadline. Sources: Microsoft's "Service protection API limits", "Web service error codes", "Bulk operation errors",
# and the retry conditions of its .NET client (429, 502, 503, generic SQL errors).
TRANSIENT: dict[tuple[int | None, int | None], int | None] = {
    (408, None): None,  # the gateway gave up waiting for the request
    (429, None): None,
    (None, 0x80072321): None,  # combined execution time, 1,200 s in 300 s
    (None, 0x80072322): None,  # number of requests, 6,000 in 300 s
    (None, 0x80072326): None,  # concurrent requests, 52
    (None, 0x80072323): None,  # SQL resource limit
    (None, 0x80072324): None,  # SQL workers
    (None, 0x80048544): None,  # query throttling
    (None, 0x8005F103): None,  # too many requests
    (None, 0x80044150): None,  # generic SQL error; number 1205 is a deadlock
    (None, SQL_TIMEOUT): None,
    (None, 0x80073000): None,  # Dataverse lost its connection to SQL
    (502, None): None,
    (503, None): None,
    (504, None): None,
    (None, 0x80040216): 1,  # "unexpected error": sometimes a passing one, often a broken plug-in
    (500, None): 1,
}

# After these the server may have finished the work although it says otherwise; the others are refusals or rollbacks.
_UNKNOWN = {(500, 0), (502, 0), (504, 0), (408, 0)}

_BY_CODE: dict[int, type[Terminal]] = {
    0x80060892: DuplicateKey,
    0x80040237: DuplicateRecord,
    0x80060882: ConcurrencyMismatch,
}
_BY_STATUS: dict[int, type[Terminal]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: BadRequest,
    412: Conflict,
    413: BadRequest,
}


def number(code: object) -> int:
    """An error code as an unsigned 32-bit number from any of its spellings; 0 when there is none.

    >>> number("0x80060882") == number("-2147088254") == number(-2147088254) == 0x80060882
    True
    """
    try:
        value = int(code, 0) if isinstance(code, str) else int(code)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return 0
    return int(value) & 0xFFFFFFFF


def error_from(
    status: int,
    code: object,
    message: str,
    *,
    request_id: str = "",
    retry_after: float | None = None,
    operation: str = "",
    writes: bool = True,
    if_match: str = "",
    if_none_match: str = "",
) -> DataverseError:
    """The exception for an error answer.

    ``writes`` says whether the request could have changed anything; ``if_match`` and ``if_none_match`` are its
    conditions, which tell apart 412 answers: older servers send them without a code.
    """
    value = number(code)
    details: dict[str, Any] = {"status": status, "code": value, "request_id": request_id, "operation": operation}
    for key in ((None, value), (status, None)):
        if key in TRANSIENT:
            kind = OutcomeUnknown if writes and (status, value) in _UNKNOWN else Transient
            return kind(message, retry_after=retry_after, repeats=TRANSIENT[key], **details)
    if value in _BY_CODE:
        return _BY_CODE[value](message, **details)
    if status == 412 and if_none_match == "*" and value != 0x80040333:  # that one is a duplicate detection rule
        return DuplicateRecord(message, **details)
    if status == 412 and value == 0 and if_match.startswith("W/"):
        return ConcurrencyMismatch(message, **details)
    return _BY_STATUS.get(status, Terminal)(message, **details)
