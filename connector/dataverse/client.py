"""The door to Dataverse for the rest of the connector."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from requests.adapters import BaseAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from .auth import TokenProvider
from .errors import SQL_TIMEOUT, DataverseError, OutcomeUnknown, Transient
from .group import GroupCommit, Unit
from .odata import Get, Part, Response, Row, Write, decode, encode, escaped, id_of
from .pace import RATE
from .transport import Counters, Pressure, Transport, absolute, error_of

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds between attempts, doubling; half of each is random
NO_ROW = (0x80040217, 0x80060891)  # no row with this id, with these key values
BULK_TIMEOUT = 120.0  # seconds; a thousand rows take some twenty


class Page(list[Row]):
    """Rows of one page. ``delta_link`` is on the last page when changes were tracked: read it next time.

    ``next_link`` is on all others: where a reader that must stop here can go on later.
    """

    delta_link: str | None = None
    next_link: str | None = None


class DataverseClient:
    """Reads and writes one environment. One instance a process, shared by all threads.

    ``url`` is the environment's (``https://org.crm.dynamics.com``), ``ca_file`` a certificate authority to trust instead
    of the public ones, ``slots`` the most requests at once for ``read`` and ``commit``, ``max_operations`` the most
    operations in one of those requests; ``pace`` adapts both. ``requests_per_second`` is their number in the long run: raise
    it for an environment with several web servers, lower it where several processes share the application user.

    Every call repeats what is worth repeating for ``deadline`` seconds, which must be less than the lock on the message
    being processed; then it raises the last error. ``timeout`` is in seconds too, for each wait on the socket.
    ``adapter`` takes the place of the connection pool: the seam for tests and for proxies of one's own.

    Everything raises ``DataverseError``: ``Transient`` when the deadline passed, ``Terminal`` when repeating is useless.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenProvider,
        *,
        ca_file: str | None = None,
        slots: int = 8,
        max_operations: int = 100,
        requests_per_second: float = RATE,
        deadline: float = 25.0,
        timeout: float = 20.0,
        adapter: BaseAdapter | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.counters = Counters()
        self._pressure = Pressure(clock, sleep)
        self._deadline = deadline
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._transport = Transport(
            url,
            tokens,
            ca_file=ca_file,
            connections=slots + 8,
            adapter=adapter,
            pressure=self._pressure,
            counters=self.counters,
        )
        self._group = GroupCommit(
            self._transport.send,
            self._pressure,
            clock=clock,
            slots=slots,
            max_operations=max_operations,
            rate=requests_per_second,
            timeout=timeout,
            departed=self.counters.work,
        )

    @property
    def parallelism(self) -> int:
        """Requests at once: what the service recommends, fewer while it refuses. For jobs that use ``*_multiple``."""
        return self._pressure.parallelism

    @property
    def budget(self) -> dict[str, float]:
        """``requests`` and ``seconds`` left in the window on the web server that answered last; another may answer next."""
        return dict(self._pressure.budget)

    def read(self, *gets: Get, deadline: float | None = None) -> list[Any]:
        """One result for each: a row (dict), rows (list of dicts, all pages), or None where there is none.

        Reads of other threads may share the request. ``NotFound`` is raised for a table that does not exist.
        """
        if not gets:
            return []
        unit = Unit([get.part() for get in gets], atomic=False)

        def attempt(until: float) -> list[Any]:
            found = []
            for part, response in zip(unit.parts, self._group.submit(unit, until), strict=True):
                error = self._failure(response, part) if response.status >= 300 else None
                if error and error.code not in NO_ROW:
                    raise error
                found.append(None if error else _json(response, part))
            return found

        results = self._persist(attempt, deadline)
        return [self._rows(get, found) for get, found in zip(gets, results, strict=True)]

    def get(self, path: str, *, annotations: str = "") -> Any:
        """``read`` for one path."""
        return self.read(Get(path, annotations))[0]

    def commit(self, writes: Sequence[Write], *, deadline: float | None = None) -> list[str | None]:
        """One change set, all or nothing. The id of each written row, where Dataverse tells it.

        Raises the error of the write that failed; its ``operation`` says which. A change set whose answer was lost is
        repeated, so it has to be one that cannot happen twice: then a ``Conflict`` may be the trace of the first attempt.
        """
        unit = Unit([write.part() for write in writes], atomic=True)

        def attempt(until: float) -> list[str | None]:
            responses = self._group.submit(unit, until)
            for response in responses:
                if response.status >= 300:
                    raise self._failure(response, _culprit(unit, response))
            if len(responses) != len(unit.parts):
                raise unit.unanswered(f"{len(responses)} answers to {len(unit.parts)} writes")
            return [id_of(response.headers.get("odata-entityid")) for response in responses]

        return self._persist(attempt, deadline)

    def pages(
        self, path: str, *, max_page_size: int = 5000, annotations: str = "", track_changes: bool = False
    ) -> Iterator[Page]:
        """The rows of a query, page by page. ``path`` may also be a link of an earlier page."""
        wishes = [f"odata.maxpagesize={max_page_size}"]
        if annotations:
            wishes.append(f'odata.include-annotations="{annotations}"')
        if track_changes:
            wishes.append("odata.track-changes")
        headers = {"Prefer": ",".join(wishes)}
        link: str | None = path
        while link:
            found = self.request("GET", link, headers=headers).json()
            page = Page(found["value"])
            page.delta_link = found.get("@odata.deltaLink")
            page.next_link = link = found.get("@odata.nextLink")
            yield page

    def create_multiple(
        self, entity_set: str, table: str, rows: Sequence[Mapping[str, Any]], *, divisible: bool = False
    ) -> list[str]:
        """Create rows of the table with logical name ``table`` in one call, all or nothing; their ids in order.

        Rows need an id or alternate key of their own: a lost answer is repeated, and may then be a ``Conflict``.
        ``divisible``: a SQL time-out is not repeated, because the caller would rather send less.
        """
        answer = self._multiple(entity_set, table, "CreateMultiple", rows, divisible)
        return [str(row_id) for row_id in answer.json()["Ids"]]

    def update_multiple(
        self, entity_set: str, table: str, rows: Sequence[Mapping[str, Any]], *, divisible: bool = False
    ) -> None:
        """Change rows in one call, all or nothing. Each row carries its id column. Of two for one id the first counts."""
        self._multiple(entity_set, table, "UpdateMultiple", rows, divisible)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        divisible: bool = False,
    ) -> Response:
        """Any other call, for example on definitions. ``body`` is encoded as JSON unless it is None.

        ``repeatable`` says whether a lost answer may be repeated; by default everything but POST.
        """
        text = None if body is None else encode(body)
        # A next link is the server's own spelling and stays as it is.
        part = Part(method, path if absolute(path) else escaped(path), tuple((headers or {}).items()), text)
        repeat_lost = method != "POST" if repeatable is None else repeatable

        def attempt(until: float) -> Response:
            self._pressure.wait(until)
            self.counters.work(1)
            return self._transport.send(part, timeout=max(1.0, min(timeout or self._timeout, until - self._clock())))

        return self._persist(attempt, deadline, repeat_lost=repeat_lost, divisible=divisible)

    def close(self) -> None:
        """Wait for calls on their way, refuse new ones, and close connections."""
        self._group.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _persist[T](
        self,
        attempt: Callable[[float], T],
        seconds: float | None,
        *,
        repeat_lost: bool = True,
        divisible: bool = False,
    ) -> T:
        """The one retry layer: repeat transient failures until the deadline."""
        until = self._clock() + (self._deadline if seconds is None else seconds)

        def pause(state: RetryCallState) -> float:
            grown: float = min(FIRST_PAUSE * 2 ** (state.attempt_number - 1), LONGEST_PAUSE)
            asked = _error(state).retry_after or 0.0
            return asked + grown * (0.5 + self._chance() / 2)

        def stop(state: RetryCallState) -> bool:
            error = _error(state)
            if isinstance(error, OutcomeUnknown) and not repeat_lost:
                return True
            if divisible and error.code == SQL_TIMEOUT:
                return True
            if error.repeats is not None and state.attempt_number > error.repeats:
                return True
            return self._clock() + state.upcoming_sleep >= until

        def note(state: RetryCallState) -> None:
            self.counters.retry()
            log.info("attempt %d failed, next in %.2f s: %s", state.attempt_number, state.upcoming_sleep, _error(state))

        retrying = Retrying(
            retry=retry_if_exception_type(Transient),
            wait=pause,
            stop=stop,
            sleep=self._sleep,
            before_sleep=note,
            reraise=True,
        )
        return retrying(attempt, until)

    def _multiple(
        self, entity_set: str, table: str, message: str, rows: Sequence[Mapping[str, Any]], divisible: bool
    ) -> Response:
        if not rows:
            raise ValueError("rows: at least one is needed")
        kind = {"@odata.type": f"Microsoft.Dynamics.CRM.{table}"}
        self.counters.work(len(rows) - 1)
        return self.request(
            "POST",
            f"{entity_set}/Microsoft.Dynamics.CRM.{message}",
            {"Targets": [kind | dict(row) for row in rows]},
            repeatable=True,
            timeout=BULK_TIMEOUT,
            deadline=max(self._deadline, BULK_TIMEOUT * 1.5),
            divisible=divisible,
        )

    def _rows(self, get: Get, found: Any) -> Any:
        if not isinstance(found, dict) or not isinstance(found.get("value"), list):
            return found
        rows: list[Row] = found["value"]
        if link := found.get("@odata.nextLink"):
            for page in self.pages(link, annotations=get.annotations):
                rows.extend(page)
        return rows

    def _failure(self, response: Response, part: Part) -> DataverseError:
        self._pressure.observe(response)
        return error_of(response, part)


def _error(state: RetryCallState) -> Transient:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Transient)
    return error


def _json(response: Response, part: Part) -> Any:
    try:
        return decode(response.body) if response.body else None
    except ValueError:
        raise Transient(f"the answer to {part.method} {part.path.partition('?')[0]} is not JSON") from None


def _culprit(unit: Unit, response: Response) -> Part:
    """The write that a failing response belongs to. Without a number, one whose precondition a 412 can be about."""
    index = response.headers.get("content-id", "")
    if index.isdecimal() and 1 <= int(index) <= len(unit.parts):
        return unit.parts[int(index) - 1]
    conditions = (part for part in unit.parts if any(value.startswith("W/") for _, value in part.headers))
    return next(conditions, unit.parts[0]) if response.status == 412 else unit.parts[0]
