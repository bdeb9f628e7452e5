"""What others tell a bulk run about."""

import random
import time

from connector.dataverse import Conflict, DataverseClient, NotFound, Update
from connector.dataverse.odata import guid

_ATTEMPTS = 50


def notices_confirmed(client: DataverseClient, run_id: str, count: int) -> None:
    """So many more notices of a run's entries are on their queue. The run's workers write the row too."""
    path = f"loy_bulkruns({guid(run_id)})"
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0, 0.02 * min(attempt, 10)))  # noqa: S311
        row = client.get(f"{path}?$select=loy_noticesconfirmed")
        if row is None:
            return
        try:
            confirmed = (row["loy_noticesconfirmed"] or 0) + count
            client.commit([Update(path, {"loy_noticesconfirmed": confirmed}, if_match=row["@odata.etag"])])
        except Conflict:
            continue
        except NotFound:
            return
        return
