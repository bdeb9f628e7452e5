"""What timers do: pick up what waits, send notices."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any

from connector.bus import Change, QueueSender, Subject
from connector.bus.change import TABLES
from connector.dataverse import DataverseClient
from connector.dataverse.odata import moment
from connector.notices import notice
from connector.rows import wishes
from connector.rows.choices import KIND_OF, NoticeStatus
from connector.rows.log import PARKED, resumed

_PATIENCE = timedelta(minutes=2)
_PAGE = 500
_NOTICES = 1000
_PAGES_AT_ONCE = 4


class Chores:
    def __init__(
        self, client: DataverseClient, send: Callable[[Sequence[Change]], None], clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._send = send
        self._clock = clock

    def pick_up_waiting(self) -> int:
        """Send redemptions and adjustments that have waited too long, and log rows that somebody wants resumed or checked: their
        event was lost or is late."""
        before = moment(self._clock().replace(microsecond=0) - _PATIENCE)
        sent = 0
        for subject in wishes.OPEN:
            table = TABLES[subject]
            condition = f"{wishes.waits(subject)} and modifiedon lt {before}"
            path = f"{table}s?$select=_loy_customerid_value&$filter={condition}"
            for page in self._client.pages(path, max_page_size=_PAGE, annotations=_LOOKUP):
                self._send([_waiting(subject, row[f"{table}id"], _customer(row)) for row in page])
                sent += len(page)
        asked = f"{PARKED} and (loy_resume eq true or loy_check eq true) and modifiedon lt {before}"
        path = f"loy_integrationlogs?$select=loy_change,loy_resume,loy_check&$filter={asked}"
        for page in self._client.pages(path, max_page_size=_PAGE):
            changes = [change for row in page if (change := resumed(row))]
            self._send(changes)
            sent += len(changes)
        return sent

    def send_notices(self, queue: QueueSender, enough: Callable[[], bool] = lambda: False) -> int:
        """Put the notices of committed entries on their queue, then mark them, some pages at a time until there are no more or
        it is `enough`. A crash between the two sends one twice: its message id is the entry's, so the queue's duplicate
        detection or the receiver can tell. A bulk run sends those of its own entries itself."""
        path = (
            "loy_entries?$select=loy_sequence,loy_kind,loy_points,loy_cause,loy_tiercode,loy_occurredon,loy_noticetemplate"
            "&$expand=loy_MembershipId($select=loy_customerkey,loy_balance)"
            f"&$filter=loy_noticestatus eq {NoticeStatus.WAITING.value}"
        )
        sent = 0
        with ThreadPoolExecutor(_PAGES_AT_ONCE) as pool:
            under_way: set[Future[int]] = set()
            for page in self._client.pages(path, max_page_size=_NOTICES):
                if page:
                    under_way.add(pool.submit(self._send_notices, queue, page))
                finished, under_way = wait(under_way, None if len(under_way) == _PAGES_AT_ONCE else 0, FIRST_COMPLETED)
                sent += sum(future.result() for future in finished)
                if enough():
                    break
            return sent + sum(future.result() for future in under_way)

    def _send_notices(self, queue: QueueSender, page: Sequence[dict[str, Any]]) -> int:
        queue.send(
            [
                notice(
                    row["loy_entryid"],
                    customer=row["loy_MembershipId"]["loy_customerkey"],
                    kind=KIND_OF[row["loy_kind"]],
                    points=row["loy_points"],
                    cause=row["loy_cause"],
                    tier=row["loy_tiercode"],
                    occurred_on=row["loy_occurredon"],
                    balance=row["loy_MembershipId"]["loy_balance"],
                    template=row["loy_noticetemplate"] or "",
                )
                for row in page
            ]
        )
        marked = [{"loy_entryid": row["loy_entryid"], "loy_noticestatus": NoticeStatus.SENT.value} for row in page]
        self._client.update_multiple("loy_entries", "loy_entry", marked)
        return len(page)


_LOOKUP = "Microsoft.Dynamics.CRM.lookuplogicalname"


def _waiting(subject: Subject, row_id: str, customer: str | None) -> Change:
    """No event gave a correlation id, so the row's own leads to its log row and traces."""
    return Change.about(subject, row_id, customer, cause="waiting", correlation_id=row_id)


def _customer(row: dict[str, object]) -> str | None:
    table = row.get(f"_loy_customerid_value@{_LOOKUP}")
    return f"{table}:{row['_loy_customerid_value']}" if table else None
