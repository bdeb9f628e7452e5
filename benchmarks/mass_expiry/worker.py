"""A worker process of a run: `python -m benchmarks.mass_expiry.worker RUN [--lanes N]`, settings in the environment.

Says what the whole run has done in lines of JSON. It may be killed at any moment.
"""

import argparse
import json
import os
import sys
import threading
from dataclasses import asdict

from connector.app import App
from connector.mass import Progress, work
from connector.settings import read_settings

_saying = threading.Lock()


def say(progress: Progress) -> None:
    with _saying:
        print(json.dumps(asdict(progress.totals)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--page", type=int, default=1000)
    parser.add_argument("--lease", type=float, default=60.0)
    parser.add_argument("--window", type=float, default=300.0)
    options = parser.parse_args()
    app = App(read_settings(os.environ))
    try:
        say(
            work(
                options.run,
                [app.client],
                app.programs.current(),
                app.send_changes,
                app.send_notices,
                clock=app.now,
                lanes=options.lanes,
                page=options.page,
                lease=options.lease,
                window=options.window,
                worker=f"worker {os.getpid()}",
                progress=say,
            )
        )
    finally:
        app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
