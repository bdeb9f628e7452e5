"""What can be counted, compared with what was counted before: `python -m benchmarks.hot_path --quick`.

Changes are decided and committed one after another in this process, so that their cost comes out the same each time: no clock
is read. `--accept` writes the counts down as the new baseline, to be committed with the change that explains them.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.hot_path import laws
from benchmarks.hot_path.lab import ROOT, Lab
from benchmarks.hot_path.stream import Names, Recording, record
from connector.app import App, connect
from connector.bus import Change
from connector.dataverse import DataverseClient
from connector.processing import Processor
from connector.rows.programs import Programs
from connector.store import Store

BASELINE = Path(__file__).parent / "baseline.json"
_SEED = 9
# By how much a count may exceed its baseline. Sizes vary with the digits of a duration, modules with the versions of packages.
_TOLERANCE = {"bytes": 0.02, "modules": 0.05}
_SPARE = {"history.bytes.percent": 1.0, "blocks.kept": 20.0}
_HEAVY = ("azure.servicebus", "msal", "cryptography", "opentelemetry", "pandas", "numpy", "local")


def measure(lab: Lab) -> dict[str, float]:
    """Counts by name; each for one change unless the name says otherwise."""
    client = connect(lab.settings)
    # A programme that never grows old: how often it is read again would depend on the machine's speed.
    programs = Programs(client, lab.settings.loyalty_program, clock=lambda: 0.0)
    programs.current()
    processor = Processor(Store(client, App.now), programs, _nobody, App.now)
    mixed = record(_SEED, customers=40, history=10, changes=200)
    found = _cost(lab, client, processor, mixed)
    short, long = (
        _cost(lab, client, processor, record(_SEED, customers=1, history=length, changes=20)) for length in (20, 1000)
    )
    found |= {f"history.{name}": round(long[name] - short[name], 2) for name in ("requests", "operations")}
    found["history.bytes.percent"] = round(100 * (long["bytes.sent"] / short["bytes.sent"] - 1), 1)
    client.close()
    return found | _imports()


def compare(found: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """A sentence for each count that is worse than its baseline."""
    worse = []
    for name in sorted(baseline.keys() | found.keys()):
        if name not in found or name not in baseline:
            worse.append(f"{name}: not in both; accept a new baseline")
            continue
        slack = next((share for word, share in _TOLERANCE.items() if word in name), 0.0)
        most = baseline[name] * (1 + slack) + _SPARE.get(name, 1e-9)
        if found[name] > most:
            worse.append(f"{name}: {found[name]:g}, was {baseline[name]:g}")
    return worse


def baseline() -> dict[str, float]:
    return dict(json.loads(BASELINE.read_text()))


def accept(found: dict[str, float]) -> None:
    BASELINE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _cost(lab: Lab, client: DataverseClient, processor: Processor, recording: Recording) -> dict[str, float]:
    """Cost of one change on average. Raises when a law is broken: what is wrong may be as cheap as it likes."""
    names = Names(f"quick/{len(recording.events)}/{recording.history}/{uuid4()}")
    lab.plant(recording, names)
    changes = names.changes(recording)
    lab.reset_counters()
    before = client.counters.snapshot()
    half = len(changes) // 2
    for change in changes[:half]:
        processor.process(change)
    gc.collect()
    blocks = sys.getallocatedblocks()
    for change in changes[half:]:
        processor.process(change)
    gc.collect()
    blocks = sys.getallocatedblocks() - blocks
    after, counted = client.counters.snapshot(), lab.counted()
    if broken := laws.broken(client, recording, names):
        raise SystemExit(f"hot_path: laws are broken: {dict(broken)}")

    def each(name: str) -> float:
        return float((after[name] - before[name]) / len(changes))

    return {
        "requests": round(each("requests"), 2),
        "operations": round(counted.operations / len(changes), 2),
        "seconds.modelled": round(counted.seconds / len(changes), 3),
        "bytes.sent": round(each("bytes_sent")),
        "bytes.received": round(each("bytes_received")),
        "blocks.kept": round(blocks / (len(changes) - half), 1),
    }


def _nobody(changes: Sequence[Change]) -> None:
    """Nothing in these recordings is passed on."""
    assert not changes


_ASKED = """
import json, sys
sys.path.insert(0, ".")
import function_app
print(json.dumps(sorted(sys.modules)))
"""


def _imports() -> dict[str, float]:
    """What a cold start imports, and how much of it is what only later calls need."""
    settings = {
        "DATAVERSE_URL": "https://contoso.example",
        "DATAVERSE_TENANT_ID": "contoso.example",
        "DATAVERSE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
        "DATAVERSE_CLIENT_SECRET": "none",
        "ServiceBusConnection": "Endpoint=sb://contoso.example;SharedAccessKeyName=none;SharedAccessKey=none",
    }
    done = subprocess.run(
        [sys.executable, "-c", _ASKED], cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    )
    modules: list[Any] = json.loads(done.stdout)
    heavy = [name for name in modules if any(name == root or name.startswith(f"{root}.") for root in _HEAVY)]
    return {"modules.cold": len(modules), "modules.heavy": len(heavy)}
