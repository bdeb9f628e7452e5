"""Does a run: lanes take parts of the customers and go through them page by page."""

from collections.abc import Callable, Sequence
from datetime import datetime

from connector.bus import Change
from connector.dataverse import DataverseClient
from connector.loyalty.program import Program
from connector.mass.order import Progress


def work(
    run_id: str,
    clients: Sequence[DataverseClient],
    program: Program,
    send: Callable[[Sequence[Change]], None],
    *,
    clock: Callable[[], datetime],
    lanes: int = 4,
    page: int = 1000,
    lease: float = 60.0,
    worker: str = "",
    progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Work on a run until nothing is left, it was paused or cancelled, or `stop` says so; answers with how it stands.

    `clients` are application users, each with `lanes` threads of its own: a lane has one page of at most `page` customers in
    the making. `send` puts what must be decided again on the session queue. A part whose worker was not heard of for `lease`
    seconds is taken over. `progress` hears the state of the whole run after each page; it is called from many threads.
    """
    raise NotImplementedError
