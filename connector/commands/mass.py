"""connector mass"""

import argparse
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from connector.app import App
from connector.commands.tables import by_month_and_tier
from connector.mass import Order, Progress, read, set_status
from connector.rows.choices import BulkKind, BulkStatus
from connector.rows.log import PARKED

HELP = "expiry and reviews of many customers: start, run, pause, resume, cancel, status, what-if"
_KINDS = {"expiry": BulkKind.EXPIRY, "review": BulkKind.REVIEW, "rules": BulkKind.RULES}
_CONTROL = {"pause": BulkStatus.PAUSED, "resume": BulkStatus.RUNNING, "cancel": BulkStatus.CANCELLED}
_WORKED_ON = {*_KINDS.values(), BulkKind.OUTSTANDING}


def options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    begin = actions.add_parser("start", help="make a run and work on it until it is done")
    begin.add_argument("--detach", action="store_true", help="only make it: the function app's timer works on it")
    begin.add_argument("--dry-run", action="store_true", help="count and show what would be written; write nothing")
    begin.add_argument("--hold", action="store_true", help="refuse redemptions of a customer while it is being written")
    begin.add_argument("--no-notices", action="store_true", help="the entries of this run announce nothing")
    begin.add_argument("--template", default="", help="name of the template that notices of this run ask for")
    what_if = actions.add_parser("what-if", help="who rises, who falls, what expires; writes nothing but the run's row")
    what_if.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TIER.COLUMN=VALUE",
        help="as if a tier were so: GOLD.minimum_spend=5000",
    )
    for shared in (begin, what_if):
        shared.add_argument("kind", choices=_KINDS)
        shared.add_argument("--as-of", type=date.fromisoformat, metavar="DATE", help="today, unless told otherwise")
        shared.add_argument("--name", default="")
        shared.add_argument("--exclude", default="", metavar="VIEW", help="id of a view of customers to leave alone")
        shared.add_argument("--exclude-file", type=Path, metavar="FILE", help="FetchXML of customers to leave alone")
        shared.add_argument(
            "--settle-first",
            default="",
            metavar="VIEW",
            help="id of a view of customers who are decided in their session",
        )
        shared.add_argument(
            "--spare-days", type=int, default=0, metavar="N", help="points earned in the last N days live on"
        )
        shared.add_argument("--lanes", type=int, default=4, help="pages at once for each application user")
    go = actions.add_parser("run", help="help to work on a run that is under way")
    go.add_argument("--lanes", type=int, default=4)
    for action in (go, *(actions.add_parser(name) for name in (*_CONTROL, "status"))):
        action.add_argument("run", metavar="RUN", help="id of the run")


def run(app: App, arguments: argparse.Namespace) -> int:
    try:
        return _run(app, arguments)
    except (ValueError, OSError) as error:
        print(f"connector: {error}", file=sys.stderr)
        return 2


def _run(app: App, arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "start" | "what-if":
            what_if = arguments.action == "what-if"
            run_id = app.mass.start(_order(app, arguments, dry_run=what_if or arguments.dry_run))
            print(f"run {run_id}", flush=True)
            if not what_if and arguments.detach:
                return 0
            return _work(app, run_id, arguments.lanes)
        case "run":
            if (kind := read(app.client, arguments.run).order.kind) not in _WORKED_ON:
                raise ValueError(f"loy_kind: a run of kind {kind.name} goes on with the command that began it")
            return _work(app, arguments.run, arguments.lanes)
        case "status":
            return _show(app, read(app.client, arguments.run))
        case action:
            return _show(app, set_status(app.client, arguments.run, _CONTROL[action], app.now))


def _order(app: App, arguments: argparse.Namespace, *, dry_run: bool) -> Order:
    fetch = arguments.exclude_file.read_text() if arguments.exclude_file else ""
    return Order(
        kind=_KINDS[arguments.kind],
        as_of=arguments.as_of or app.now().date(),
        name=arguments.name,
        dry_run=dry_run,
        exclude=arguments.exclude or fetch,
        settle_first=arguments.settle_first,
        spare_days=arguments.spare_days,
        hold=getattr(arguments, "hold", False),
        notices=not getattr(arguments, "no_notices", False),
        template=getattr(arguments, "template", ""),
        what_if="\n".join(getattr(arguments, "set", ())),
    )


def _work(app: App, run_id: str, lanes: int) -> int:
    stopping: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: stopping.append(number))
    shown = _line if sys.stderr.isatty() else lambda progress: None
    try:
        progress = app.mass.work(run_id, lanes=lanes, progress=_throttled(app, shown), stop=lambda: bool(stopping))
    finally:
        signal.signal(signal.SIGINT, before)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return _show(app, progress)


def _throttled(app: App, shown: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = 0.0

    def progress(found: Progress) -> None:
        nonlocal last
        now = app.now().timestamp()
        if now - last >= 1:
            last = now
            shown(found)

    return progress


def _line(progress: Progress) -> None:
    totals = progress.totals
    left = max(0, totals.selected - totals.visited)
    rate = progress.per_second
    minutes = f", {left / rate / 60:.0f} min" if rate else ""
    print(
        f"\r{totals.visited} of {totals.selected}, {rate:.0f}/s, {left} left{minutes}, {totals.second_round} second round,"
        f" {totals.failed} failed, held back {totals.throttled:.0f} s   ",
        end="",
        file=sys.stderr,
        flush=True,
    )


def _show(app: App, progress: Progress) -> int:
    totals = progress.totals
    print(f"{progress.order.name}: {progress.status.name.lower()}{' (dry run)' if progress.order.dry_run else ''}")
    if progress.message:
        print(f"  {progress.message}")
    print(
        f"  {totals.selected} customers selected, {totals.done} done, {totals.excluded} left alone,"
        f" {totals.second_round} second round, {totals.failed} failed"
    )
    print(
        f"  {totals.entries} entries, {totals.points} points cancelled, {totals.notices} notices confirmed,"
        f" {totals.conflicts} conflicts, {totals.rewritten} copies written anew"
    )
    print(f"  {progress.per_second:.0f} customers/s, held back {totals.throttled:.0f} s")
    value = app.programs.current().point_value
    for what in ("cancelled", "before", "after"):
        points = {(tier or "-", month): n for (w, tier, month), n in progress.figures.items() if w == what and n}
        if points:
            print(f"\n{what}\n{by_month_and_tier(points, value)}")
    _moves(progress, value)
    parked = _parked(app, progress) if totals.failed or totals.second_round else 0
    if parked:
        print(f"\n{parked} parked in the integration log, with the reasons: correlation id {progress.run_id}")
    return 1 if totals.failed or parked or progress.status is BulkStatus.FAILED else 0


def _parked(app: App, progress: Progress) -> int:
    """How many changes of a run are parked now, those of its second round among them."""
    condition = f"loy_correlationid eq '{progress.run_id}' and {PARKED}"
    return sum(len(page) for page in app.client.pages(f"loy_integrationlogs?$select=loy_name&$filter={condition}"))


def _moves(progress: Progress, value: Any) -> None:
    moves = sorted(tier for what, tier, _ in progress.figures if what == "moved")
    if moves:
        print(f"\n{'tier':20}{'customers':>12}{'they hold':>14}{'points a year':>16}{'in money':>14}")
    for move in moves:
        customers, held, a_year = (progress.figures.get((what, move, ""), 0) for what in ("moved", "balance", "a year"))
        print(f"{move:20}{customers:>12,}{held:>14,}{a_year:>+16,}{a_year * value:>+14,.2f}")
