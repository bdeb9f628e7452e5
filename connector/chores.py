"""What timers do: pick up what waits, send notices, start the reviews that are due."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from connector.bus import Change, QueueSender, Subject
from connector.dataverse import DataverseClient
from connector.dataverse.odata import moment
from connector.rows.choices import KIND_OF, AdjustmentStatus, NoticeStatus, RedemptionStatus

_PATIENCE = timedelta(minutes=2)
_PAGE = 500


class Chores:
    def __init__(
        self, client: DataverseClient, send: Callable[[Sequence[Change]], None], clock: Callable[[], datetime]
    ) -> None:
        self._client = client
        self._send = send
        self._clock = clock

    def pick_up_waiting(self) -> int:
        """Send redemptions and adjustments that have waited too long: their event was lost or is late."""
        before = moment(self._clock().replace(microsecond=0) - _PATIENCE)
        sent = 0
        for subject, table, status in (
            (Subject.REDEMPTION, "loy_redemption", RedemptionStatus.REQUESTED),
            (Subject.ADJUSTMENT, "loy_adjustment", AdjustmentStatus.REQUESTED),
        ):
            path = (
                f"{table}s?$select=_loy_customerid_value&$filter=loy_status eq {status.value} and createdon lt {before}"
            )
            for page in self._client.pages(path, max_page_size=_PAGE, annotations=_LOOKUP):
                self._send([Change.about(subject, row[f"{table}id"], _customer(row), cause="waiting") for row in page])
                sent += len(page)
        return sent

    def start_reviews(self) -> int:
        """Send a review for every membership whose day has come."""
        today = self._clock().date()
        path = f"loy_memberships?$select=loy_customerkey&$filter=loy_nextreviewon le {today}"
        sent = 0
        for page in self._client.pages(path, max_page_size=_PAGE):
            self._send(
                [
                    Change.about(Subject.REVIEW, row["loy_membershipid"], row["loy_customerkey"], cause=f"due {today}")
                    for row in page
                ]
            )
            sent += len(page)
        return sent

    def send_notices(self, queue: QueueSender) -> int:
        """Put the notices of committed entries on their queue, then mark them. A crash between the two sends one twice:
        its message id is the entry's, so the queue's duplicate detection or the receiver can tell."""
        from azure.servicebus import ServiceBusMessage

        path = (
            "loy_entries?$select=loy_sequence,loy_kind,loy_points,loy_cause,loy_tiercode,loy_occurredon"
            "&$expand=loy_MembershipId($select=loy_customerkey,loy_balance)"
            f"&$filter=loy_noticestatus eq {NoticeStatus.WAITING.value}"
        )
        sent = 0
        for page in self._client.pages(path, max_page_size=_PAGE):
            if not page:
                continue
            queue.send(
                [
                    ServiceBusMessage(
                        json.dumps(
                            {
                                "entry": row["loy_entryid"],
                                "customer": row["loy_MembershipId"]["loy_customerkey"],
                                "kind": KIND_OF[row["loy_kind"]].value,
                                "points": row["loy_points"],
                                "cause": row["loy_cause"],
                                "tier": row["loy_tiercode"],
                                "occurred_on": row["loy_occurredon"],
                                "balance": row["loy_MembershipId"]["loy_balance"],
                            }
                        ),
                        message_id=row["loy_entryid"],
                        content_type="application/json",
                    )
                    for row in page
                ]
            )
            marked = [{"loy_entryid": row["loy_entryid"], "loy_noticestatus": NoticeStatus.SENT.value} for row in page]
            self._client.update_multiple("loy_entries", "loy_entry", marked)
            sent += len(page)
        return sent


_LOOKUP = "Microsoft.Dynamics.CRM.lookuplogicalname"


def _customer(row: dict[str, object]) -> str | None:
    table = row.get(f"_loy_customerid_value@{_LOOKUP}")
    return f"{table}:{row['_loy_customerid_value']}" if table else None
