"""Mass jobs: expiry and reviews of millions of customers, beside the session queue and safe against it.

`start` makes the row of a run in `loy_bulkrun`; `work` does it, in as many processes as there are: each calls `work` with the
run's id, takes parts of the customers, and returns when nothing is left or the run was paused or cancelled. A process that
dies is replaced by whoever comes next. Everything a run writes is an ordinary ledger entry.
"""

from connector.mass.book import read, set_status, start
from connector.mass.jobs import MassJobs
from connector.mass.order import BadOrder, Order, Progress, Totals
from connector.mass.worker import work

__all__ = ["BadOrder", "MassJobs", "Order", "Progress", "Totals", "read", "set_status", "start", "work"]
