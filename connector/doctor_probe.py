"""A round trip: Dataverse's step, its endpoint, the queue, the function app, and back.

The probe writes a remark into *Problem* of the programme's row together with a column that a step listens to, unchanged. Whoever
hears that event brings *Problem* up to date, and the remark is gone. Nothing else is touched.
"""

import time
from collections.abc import Callable, Iterator

from connector.dataverse import DataverseClient, DataverseError, Update
from connector.dataverse.odata import text
from connector.findings import Finding, Level
from connector.settings import Settings

PATIENCE = 90.0
_PAUSE = 1.0
_REMARK = "The doctor is asking whether events arrive; this remark goes by itself."


def check_round_trip(
    client: DataverseClient,
    settings: Settings,
    *,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Finding]:
    """Waits up to `PATIENCE` seconds."""
    about, code = "round trip", settings.loyalty_program
    try:
        found = client.get(f"loy_programs?$select=loy_noticekinds&$filter=loy_code eq {text(code)}")
        if not found:
            return  # the check of the programme says it
        path = f"loy_programs({found[0]['loy_programid']})"
        started = clock()
        client.commit([Update(path, {"loy_problem": _REMARK, "loy_noticekinds": found[0]["loy_noticekinds"]})])
        while clock() - started < PATIENCE:
            if client.get(f"{path}?$select=loy_problem")["loy_problem"] != _REMARK:
                yield Finding(Level.GOOD, about, f"an event came back after {clock() - started:.0f} s")
                return
            pause(_PAUSE)
        client.commit([Update(path, {"loy_problem": None})])
    except DataverseError as error:
        yield Finding(Level.UNKNOWN, about, f"cannot be tried: {error.message}", "Install first, or give the role.")
        return
    yield Finding(
        Level.WRONG,
        about,
        f"no event came back within {PATIENCE:.0f} s",
        "If messages wait on the events queue, the function app does not take them: is it running, with these settings?"
        " If none wait, look at System Jobs of Dataverse for the endpoint's address and key.",
    )
