"""Expiry of very many customers, under fire: `python -m benchmarks.mass_expiry --customers N`.

Makes N customers with a past in the local Dataverse, cancels the expired points of all of them in worker processes while clerks
redeem and workers are killed, and audits everything after. Exit status 1 when a law is broken.
"""

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks.mass_expiry import laws, report
from benchmarks.mass_expiry.population import MASS_USERS, Plan, Population, copied, population
from benchmarks.mass_expiry.run import Run, Settings


def main(argv: list[str]) -> int:
    options = _options(argv)
    plan = Plan(options.customers, options.share_due, options.seed, options.as_of)
    with tempfile.TemporaryDirectory(prefix="mass-expiry-", dir=options.keep) as name:
        made = population(plan, options.keep or Path(name), _say)
        _say(f"{made.due:,} of {plan.customers:,} customers are due; made in {made.seconds:,.0f} s")
        home = made.home
        if options.keep and not options.in_place:
            home = Path(name) / "run"
            copied(made.home, home)
        return _run(made, home, options)


def _run(made: Population, home: Path, options: argparse.Namespace) -> int:
    file = home / "dataverse" / "dataverse.db"
    broken = _audit(file, "before") if options.audit_before else []
    before = laws.books(file, datetime.now(UTC))
    settings = Settings(
        workers=options.workers,
        lanes=options.lanes,
        page=options.page,
        clerks=options.clerks,
        each=options.each,
        kills=options.kills,
        idle=options.idle,
        floor=options.floor,
        limits=options.limits == "scaled",
        notices=options.notices,
        lease=options.lease,
        seed=options.seed,
    )
    result = Run(home, made.plan, settings, _say).execute()
    after = laws.books(file, datetime.now(UTC))
    broken += laws.broken(file, before, after, made.due, made.plan.as_of, result.served["all"])
    if options.notices:
        broken += laws.unannounced(file, home / "servicebus" / "servicebus.sqlite")
    broken += _audit(file, "after")
    for line in report.lines(made, result, before, after):
        print(line)
    for sentence in broken[:20]:
        print(f"BROKEN: {sentence}")
    print(f"{len(broken)} broken laws" if broken else "every law holds", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report.figures(made, result, broken), indent=1))
    return 1 if broken else 0


def _audit(file: Path, when: str) -> list[str]:
    begun = time.monotonic()
    found = laws.audited(file, _say)
    counts = ", ".join(f"{count:,} {what}" for what, count in found.counts.items() if count)
    _say(f"audit {when}: {counts}, {found.broken:,} broken laws; {time.monotonic() - begun:,.0f} s")
    return [f"audit {when}: {violation}" for violation in found.violations]


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mass_expiry", description=__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument(
        "--share-due", type=float, default=0.9, help="of the customers; the floor is measured on others"
    )
    parser.add_argument("--as-of", type=date.fromisoformat, default=datetime.now(UTC).date(), help="the day of the run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the population here, and run on a copy of it")
    parser.add_argument("--in-place", action="store_true", help="run on what is kept itself, which is used up by it")
    parser.add_argument("--workers", type=int, default=2, help="processes, each an application user")
    parser.add_argument("--lanes", type=int, default=2, help="threads of a worker")
    parser.add_argument("--page", type=int, default=1000, help="customers that a lane has in the making")
    parser.add_argument("--lease", type=float, default=10.0, help="seconds until a dead worker's part is taken over")
    parser.add_argument("--kills", type=int, default=2, help="how often a worker is killed")
    parser.add_argument("--clerks", type=int, default=40, help="so many that nobody queues in front of one of them")
    parser.add_argument("--each", type=float, default=0.1, help="redemptions a second of each clerk")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of clerks without a run")
    parser.add_argument("--floor", type=int, default=8_000, help="customers of the bare floor, half before, half after")
    parser.add_argument("--limits", choices=("off", "scaled"), default="off", help="service protection")
    parser.add_argument("--notices", action="store_true", help="the run sends the notices of its entries")
    parser.add_argument("--no-audit-before", dest="audit_before", action="store_false")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args(argv)
    if not 1 <= options.workers <= len(MASS_USERS):
        parser.error(f"--workers: from 1 to {len(MASS_USERS)}")
    if options.keep:
        options.keep = options.keep.resolve()
        options.keep.mkdir(parents=True, exist_ok=True)
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
