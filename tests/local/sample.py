"""The sample app of this folder, run in a process of the host."""

import json
from pathlib import Path

from tests.stack import clean_environment

SAMPLE_APP = Path(__file__).parent / "sample_app"
# a connection that nothing listens on: for tests that need none
NOWHERE = "Endpoint=sb://localhost:9;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true"


def sample_environment(home: Path, **settings: str) -> dict[str, str]:
    defaults = {
        "RECORD": str(home / "record.jsonl"),
        "SESSION_QUEUE": "ordered",
        "PLAIN_QUEUE": "plain",
        "SCHEDULE": "0 0 2 29 2 *",
        "ServiceBusConnection": NOWHERE,
        "PYTHON_THREADPOOL_THREAD_COUNT": "16",
    }
    return clean_environment(**(defaults | settings))


def records(home: Path, kind: str) -> list[dict]:
    """What the sample app wrote down, in order."""
    file = home / "record.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [found for found in map(json.loads, lines) if found["kind"] == kind]
