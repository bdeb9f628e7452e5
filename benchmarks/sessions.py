"""What a change costs in requests to Dataverse at 1, 8 and 64 sessions at once: `python -m benchmarks.sessions`.

Runs the demo for each number and prints one table. Requests are counted by the local Dataverse, without those of the demo itself.
"""

import json
import os
import subprocess
import sys
import tempfile

_SESSIONS = (1, 8, 64)
_LIMIT = "AzureFunctionsJobHost__extensions__serviceBus__maxConcurrentSessions"


def main(argv: list[str]) -> int:
    slice_arguments = argv or ["--households", "80", "--weeks", "3"]
    print(f"{'sessions':>8}  {'changes':>8}  {'requests/change':>15}  {'invoices/s':>10}  audit")
    for sessions in _SESSIONS:
        with tempfile.TemporaryDirectory() as home:
            command = [sys.executable, "-m", "local", "demo", "--once", "--home", f"{home}/demo", *slice_arguments]
            environment = {**os.environ, _LIMIT: str(sessions)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        summary = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{sessions:>8}  {summary['changes']:>8,}  {summary['requests_per_change']:>15.2f}"
            f"  {summary['invoices_per_second']:>10.1f}  {summary['audit']}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
