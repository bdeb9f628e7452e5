"""connector backfill"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path

from connector.app import App
from connector.identity import Customer
from connector.loyalty.program import Program
from connector.mass import BadOrder, Order
from connector.mass.backfill import (
    MONEY,
    PAGE,
    Historian,
    Openings,
    earned,
    enrol,
    invoice_totals,
    invoiced,
    ledger_totals,
    read_balances,
    rehearse,
)
from connector.mass.order import Figures
from connector.mass.undo import Undone, undo
from connector.rows.choices import BulkKind

HELP = "switch the programme on for existing invoices, or take over balances: history, balances, totals, undo"


def options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    history = actions.add_parser("history", help="ledgers of all customers who have invoices and no entries yet")
    balances = actions.add_parser("balances", help="opening balances from a CSV file: customer,points,expires")
    balances.add_argument("file", type=Path)
    for action in (history, balances):
        action.add_argument("--as-of", type=date.fromisoformat, metavar="DATE", help="today, unless told otherwise")
        action.add_argument("--rehearse", action="store_true", help="decide everything, write nothing")
        action.add_argument("--lanes", type=int, default=4)
        action.add_argument("--run", default="", help="go on with a run that was interrupted")
    for action in (
        actions.add_parser("totals", help="both sides of a run"),
        actions.add_parser("undo", help="before going live"),
    ):
        action.add_argument("run", metavar="RUN", help="id of the run")


def run(app: App, arguments: argparse.Namespace) -> int:
    try:
        match arguments.action:
            case "totals":
                return _compare(
                    app, invoice_totals(app.client, app.programs.current()), ledger_totals(app.client, arguments.run)
                )
            case "undo":
                return _undo(app, arguments.run)
            case _:
                return _fill(app, arguments)
    except (BadOrder, OSError) as error:
        print(f"connector: {error}", file=sys.stderr)
        return 2


def _fill(app: App, arguments: argparse.Namespace) -> int:
    program = app.programs.current()
    order = Order(
        BulkKind.BACKFILL, arguments.as_of or app.now().date(), f"Backfill: {arguments.action}", notices=False
    )
    balances = None
    if arguments.action == "balances":
        with arguments.file.open(encoding="utf-8-sig", newline="") as file:
            balances = read_balances(file)
    everybody: Iterable[list[Customer]] = [sorted(balances, key=str)] if balances is not None else invoiced(app.client)

    def decider(run_id: str) -> Historian | Openings:
        return Historian(program, order, run_id) if balances is None else Openings(program, order, balances)

    if arguments.rehearse:
        return _rehearse(app, program, everybody, decider(""))
    for some in everybody:
        enrol(app.client, program, some, app.now())
    run_id = arguments.run or app.mass.start(order)
    print(f"run {run_id}", flush=True)
    progress = app.mass.work(run_id, lanes=arguments.lanes, page=PAGE, decider=decider(run_id))
    totals = progress.totals
    print(f"{progress.status.name.lower()}: {totals.done} customers, {totals.entries} entries, {totals.failed} failed")
    if balances is not None:
        left = {"points": sum(sum(lots.values()) for lots in balances.values())}
        figures: Figures = Counter({("file", name, ""): n for name, n in left.items()})
        return _compare(app, figures, ledger_totals(app.client, run_id))
    return _compare(app, invoice_totals(app.client, program), ledger_totals(app.client, run_id))


def _rehearse(app: App, program: Program, everybody: Iterable[list[Customer]], decider: Historian | Openings) -> int:
    decided: Figures = Counter()
    customers = problems = 0
    for some in everybody:
        members = rehearse(app.client, program, some, decider)
        customers += sum(bool(member.decision.entries) for member in members)
        problems += sum(len(member.problems) for member in members)
        decided.update(earned(members))
    print(
        f"rehearsal: {customers} customers would get a ledger, {problems} invoices cannot be read; nothing was written"
    )
    left = invoice_totals(app.client, program) if isinstance(decider, Historian) else decided
    return _compare(app, left, decided)


def _compare(app: App, left: Figures, right: Figures) -> int:
    """Both sides, and whether they agree: an exit status of 1 when they do not."""
    agree = True
    names = {what for what, _, _ in left}
    for name in ("points", "money"):
        here = next((left[what, name, ""] for what in names if (what, name, "") in left), None)
        there = right["ledger", name, ""]
        unit = MONEY if name == "money" else 1
        if here is None:
            continue
        agree &= here == there
        print(
            f"{name:8}{'/'.join(sorted(names)):10}{Decimal(here) / unit:>20,.2f}  ledger{Decimal(there) / unit:>20,.2f}"
        )
    print(
        "both sides agree"
        if agree
        else "the sides differ: customers whose ledger had begun before are not in the run; see connector audit"
    )
    return 0 if agree else 1


def _undo(app: App, run_id: str) -> int:
    def told(undone: Undone) -> None:
        if sys.stderr.isatty():
            print(f"\r{undone.customers} customers ...", end="", file=sys.stderr, flush=True)

    undone = undo(app.client, app.programs.current(), run_id, app.now(), told)
    print(
        f"undone: {undone.entries} entries of {undone.customers} customers; {undone.kept} have entries of others and stay"
    )
    return 1 if undone.kept else 0
