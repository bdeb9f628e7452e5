"""A run's row in `loy_bulkrun`: what was ordered, which parts are left and who works on them, what was done."""

from collections.abc import Callable
from datetime import datetime

from connector.dataverse import DataverseClient
from connector.mass.order import Order, Progress
from connector.rows.choices import BulkStatus


def start(client: DataverseClient, order: Order, clock: Callable[[], datetime]) -> str:
    """Make the row of a run, ready to be worked on; its id."""
    raise NotImplementedError


def read(client: DataverseClient, run_id: str) -> Progress:
    """How a run stands. NotFound when there is none."""
    raise NotImplementedError


def set_status(client: DataverseClient, run_id: str, status: BulkStatus) -> Progress:
    """Pause (PAUSED), resume (RUNNING) or cancel (CANCELLED) a run; workers notice between two pages."""
    raise NotImplementedError
