"""Speed of the local Dataverse: `python -m benchmarks.dataverse [--rows N]`.

Runs the environment in this process without a socket, with our membership and entry tables of N rows, and prints for each
kind of call: calls a second, rows (or operations) a second, milliseconds for each.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from local.dataverse.app import Application
from local.dataverse.auth import anyone
from local.dataverse.environment import Environment
from local.dataverse.provisioning import ensure_user
from local.dataverse.responses import Response

_ROOT = "/api/data/v9.2/"
_KEYS = {
    "loy_membership": [["loy_customerkey"]],
    "loy_entry": [["loy_membershipid", "loy_sequence"], ["loy_idempotencykey"]],
}
_STATE = json.dumps({"lots": [{"points": 120, "expires": "2027-03-01"}] * 4, "spend": {"2026-01": "120.50"}})


def _label(text: str) -> dict[str, Any]:
    return {"LocalizedLabels": [{"Label": text, "LanguageCode": 1033}]}


class Bench:
    """An environment with memberships and entries; `send` is one HTTP request without a socket."""

    def __init__(self, folder: Path, cache_mb: int) -> None:
        application = str(uuid.uuid4())
        self.env = Environment(folder / "bench.db", cache_mb=cache_mb)
        ensure_user(self.env, "benchmark", application=application)
        self.app = Application(self.env, anyone(application), url="https://bench.local")

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.app.answer(method, _ROOT + path, sent, data)
        if response.status >= 400:
            raise RuntimeError(f"{method} {path[:80]}: {response.status} {response.body[:300]!r}")
        return response

    def provision(self) -> None:
        def column(kind: str, name: str, **more: Any) -> dict[str, Any]:
            return {"@odata.type": f"Microsoft.Dynamics.CRM.{kind}AttributeMetadata", "SchemaName": name,
                    "DisplayName": _label(name), **more}  # fmt: skip

        for name in ("loy_Membership", "loy_Entry"):
            self.send("POST", "EntityDefinitions", {
                "SchemaName": name, "DisplayName": _label(name), "DisplayCollectionName": _label(name),
                "OwnershipType": "UserOwned", "ChangeTrackingEnabled": True,
                "Attributes": [column("String", "loy_Name", MaxLength=200, IsPrimaryName=True)],
            })  # fmt: skip
        membership, entry = (
            "EntityDefinitions(LogicalName='loy_membership')",
            "EntityDefinitions(LogicalName='loy_entry')",
        )
        members: list[tuple[str, str, dict[str, Any]]] = [
            ("String", "loy_CustomerKey", {"MaxLength": 50}), ("Integer", "loy_Sequence", {}), ("Integer", "loy_Balance", {}),
            ("Memo", "loy_State", {}), ("DateTime", "loy_NextExpiryOn", {"DateTimeBehavior": {"Value": "DateOnly"}}),
            ("Decimal", "loy_Spend", {"Precision": 4}),
        ]  # fmt: skip
        for kind, name, more in members:
            self.send("POST", f"{membership}/Attributes", column(kind, name, **more))
        entries: list[tuple[str, str, dict[str, Any]]] = [
            ("String", "loy_IdempotencyKey", {"MaxLength": 120}), ("Integer", "loy_Sequence", {}),
            ("Integer", "loy_Points", {}), ("Memo", "loy_Movements", {}), ("String", "loy_Hash", {"MaxLength": 64}),
        ]  # fmt: skip
        for kind, name, more in entries:
            self.send("POST", f"{entry}/Attributes", column(kind, name, **more))
        self.send("POST", "RelationshipDefinitions", {
            "@odata.type": "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata", "SchemaName": "loy_membership_entry",
            "ReferencedEntity": "loy_membership", "ReferencingEntity": "loy_entry",
            "Lookup": column("Lookup", "loy_MembershipId"),
        })  # fmt: skip
        for table, keys in _KEYS.items():
            for number, columns in enumerate(keys):
                self.send("POST", f"EntityDefinitions(LogicalName='{table}')/Keys", {
                    "SchemaName": f"loy_Key{number}", "DisplayName": _label("key"), "KeyAttributes": columns,
                })  # fmt: skip
        self.env.run_jobs()


def member(number: int) -> str:
    return str(uuid.UUID(int=(number << 96) | 0x4000_8000_0000_0000_0000))


def membership_row(number: int) -> dict[str, Any]:
    return {
        "@odata.type": "Microsoft.Dynamics.CRM.loy_membership", "loy_membershipid": member(number),
        "loy_name": f"Member {number}", "loy_customerkey": f"account:{member(number)}", "loy_sequence": 1,
        "loy_balance": number % 1000, "loy_state": _STATE, "loy_spend": 12.5,
        "loy_nextexpiryon": f"2027-{number % 12 + 1:02d}-01",
    }  # fmt: skip


def entry_row(owner: int, sequence: int) -> dict[str, Any]:
    row_id = str(uuid.uuid4())
    return {
        "@odata.type": "Microsoft.Dynamics.CRM.loy_entry", "loy_entryid": row_id, "loy_name": f"{owner}/{sequence}",
        "loy_MembershipId@odata.bind": f"/loy_memberships({member(owner)})", "loy_sequence": sequence, "loy_points": 100,
        "loy_idempotencykey": f"invoice:{row_id}:earn:1", "loy_movements": _STATE, "loy_hash": "0" * 64,
    }  # fmt: skip


def change_sets(count: int, pick: Callable[[], int], sequence: Iterator[int]) -> bytes:
    """A `$batch` body of `count` change sets of four writes: entry, membership, account-like update, log-like upsert."""
    lines: list[str] = []
    for number in range(count):
        owner, mark = pick(), f"cs{number}"
        entry = entry_row(owner, next(sequence))
        del entry["@odata.type"]
        writes = [
            ("POST", "loy_entries", entry),
            (
                "PATCH",
                f"loy_memberships({member(owner)})",
                {"loy_sequence": 2, "loy_balance": 500, "loy_state": _STATE},
            ),
            ("PATCH", f"loy_memberships({member(pick())})", {"loy_balance": 1}),
            ("PATCH", f"contacts({uuid.uuid4()})", {"lastname": "log", "description": "text"}),
        ]
        lines += ["--b", f"Content-Type: multipart/mixed; boundary={mark}", ""]
        for content, (method, path, body) in enumerate(writes):
            lines += [f"--{mark}", "Content-Type: application/http", "Content-Transfer-Encoding: binary",
                      f"Content-ID: {content + 1}", "", f"{method} {_ROOT}{path} HTTP/1.1",
                      "Content-Type: application/json", "", json.dumps(body)]  # fmt: skip
        lines += [f"--{mark}--", ""]
    return "\r\n".join([*lines, "--b--", ""]).encode()


def reads(count: int, pick: Callable[[], int]) -> bytes:
    """A `$batch` body of reads by id, with expands, and by a prefix of a key."""
    lines: list[str] = []
    for number in range(count):
        owner = pick()
        path = [
            f"loy_memberships({member(owner)})?$select=loy_sequence,loy_balance,loy_state",
            f"loy_entries?$filter=startswith(loy_idempotencykey,'invoice:{member(owner)}:')&$select=loy_points,loy_sequence",
            f"loy_memberships({member(owner)})?$select=loy_balance&$expand=ownerid($select=fullname),"
            "loy_membership_entry($select=loy_points)",
        ][number % 3]
        lines += ["--b", "Content-Type: application/http", "Content-Transfer-Encoding: binary", "",
                  f"GET {_ROOT}{path} HTTP/1.1", "Accept: application/json", "", ""]  # fmt: skip
    return "\r\n".join([*lines, "--b--", ""]).encode()


def timed(name: str, per_call: int, seconds: float, call: Callable[[], Any]) -> dict[str, Any]:
    """Repeats `call` for some seconds. Processor time is told beside wall time: it does not depend on who else is busy."""
    call()
    begun, used, calls = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        call()
        calls += 1
    took, spent = time.perf_counter() - begun, time.process_time() - used
    line = {
        "what": name,
        "calls/s": calls / took,
        "operations/s": calls * per_call / took,
        "ms each": took / calls / per_call * 1000,
        "CPU ms each": spent / calls / per_call * 1000,
    }
    print(
        f"  {name:<40} {line['calls/s']:>9,.1f} calls/s {line['operations/s']:>10,.0f} op/s {line['ms each']:>8.3f} ms/op "
        f"{line['CPU ms each']:>8.3f} CPU ms/op",
        flush=True,
    )
    return line


def fill(bench: Bench, rows: int) -> float:
    """Memberships through CreateMultiple, 1,000 at a time; answers seconds."""
    begun = time.perf_counter()
    for first in range(0, rows, 1000):
        targets = [membership_row(number) for number in range(first, min(first + 1000, rows))]
        bench.send("POST", "loy_memberships/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": targets})
        if first and first % 500_000 == 0:
            print(f"  ... {first:,} rows in {time.perf_counter() - begun:,.0f} s", flush=True)
    return time.perf_counter() - begun


def run(rows: int, seconds: float, seed: int, cache_mb: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="dataverse-") as name:
        bench = Bench(Path(name), cache_mb)
        bench.provision()
        filled = fill(bench, rows)
        print(f"{rows:,} memberships (seed {seed}); filled at {rows / filled:,.0f} rows/s")
        draw = random.Random(seed)
        sequence = iter(range(2, 10**9))
        batch = {"content_type": "multipart/mixed; boundary=b"}

        def pick() -> int:
            return draw.randrange(rows)

        def update_multiple() -> None:
            first = draw.randrange(max(1, rows - 1000))
            kind = "Microsoft.Dynamics.CRM.loy_membership"
            targets = [
                {"@odata.type": kind, "loy_membershipid": member(number), "loy_balance": 1, "loy_state": _STATE}
                for number in range(first, min(first + 1000, rows))
            ]
            bench.send("POST", "loy_memberships/Microsoft.Dynamics.CRM.UpdateMultiple", {"Targets": targets})

        def create_multiple() -> None:
            targets = [entry_row(pick(), next(sequence)) for _ in range(1000)]
            bench.send("POST", "loy_entries/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": targets})

        def page() -> None:
            key = f"account:{member(draw.randrange(max(1, rows - 1000)))}"
            columns = "$select=loy_customerkey,loy_balance,loy_state&$orderby=loy_customerkey"
            path = f"loy_memberships?{columns}&$filter=loy_customerkey%20ge%20'{key}'"
            bench.send("GET", path, prefer="odata.maxpagesize=1000")

        def read() -> None:
            bench.send("GET", f"loy_memberships({member(pick())})?$select=loy_balance")

        def update() -> None:
            bench.send("PATCH", f"loy_memberships({member(pick())})", {"loy_balance": 7})

        def create() -> None:
            row = entry_row(pick(), next(sequence))
            del row["@odata.type"]
            bench.send("POST", "loy_entries", row)

        table = [
            timed("read one by id", 1, seconds, read),
            timed("create one", 1, seconds, create),
            timed("update one", 1, seconds, update),
            timed("$batch of 30 reads", 30, seconds, lambda: bench.send("POST", "$batch", reads(30, pick), **batch)),
            timed("$batch of 10 change sets of 4 writes", 40, seconds,
                  lambda: bench.send("POST", "$batch", change_sets(10, pick, sequence), **batch)),
            timed("CreateMultiple of 1,000 entries", 1000, seconds, create_multiple),
            timed("UpdateMultiple of 1,000 memberships", 1000, seconds, update_multiple),
            timed("page of 1,000 by an indexed column", 1000, seconds, page),
        ]  # fmt: skip
        size = sum(path.stat().st_size for path in Path(name).iterdir())
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  disk {size / 1e6:,.0f} MB, peak memory {memory:,.0f} MB")
        bench.env.close()
        return {"rows": rows, "fill rows/s": rows / filled, "disk MB": size / 1e6, "memory MB": memory, "table": table}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dataverse", description=__doc__)
    parser.add_argument("--rows", type=int, action="append", help="memberships; repeat it (default: 10000)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each kind of call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache-mb", type=int, default=256)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(argv)
    results = [run(rows, options.seconds, options.seed, options.cache_mb) for rows in options.rows or [10_000]]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
