"""`python -m benchmarks.chaos --seeds 1..200`: exits with 1 and tells why when a law was broken.

`--stack` plays the same company on the processes of the local stack, in real time, one seed after the other.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from benchmarks.chaos.live import Live, live
from benchmarks.chaos.planted import BUGS
from benchmarks.chaos.report import HEADER, Outcome
from benchmarks.chaos.run import Size, told


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="one seed")
    parser.add_argument("--seeds", metavar="A..B", help="seeds from A to B")
    parser.add_argument(
        "--minutes", type=float, default=Size().minutes, help="of work a day; in virtual time without --stack"
    )
    parser.add_argument("--days", type=int, default=Size().days)
    parser.add_argument("--customers", type=int, help="10, with --stack 40")
    parser.add_argument("--workers", type=int, default=1, help="seeds at once")
    parser.add_argument("--plant", choices=sorted(BUGS), default="", help="a bug to be caught")
    parser.add_argument("--stack", action="store_true", help="on the processes of the local stack")
    parser.add_argument("--changes", type=int, default=0, help="work ends with so many changes")
    parser.add_argument("--functions", type=int, default=Live().hosts, help="Functions hosts of the stack")
    parser.add_argument("--branches", type=int, default=Live().branches, help="clerks at work on the stack at once")
    options = parser.parse_args(argv)
    first, _, last = (options.seeds or str(options.seed)).partition("..")
    seeds = range(int(first), int(last or first) + 1)
    print(HEADER, flush=True)
    broken = 0
    for outcome, lines in _on_stack(seeds, options) if options.stack else _in_process(seeds, options):
        print(outcome.line(), flush=True)
        for line in lines:
            print(f"    {line}", flush=True)
        broken += not outcome.holds
    print(f"{len(seeds)} seeds, {broken} of them broke a law.")
    return 1 if broken else 0


def _on_stack(seeds: range, options: argparse.Namespace) -> Iterator[tuple[Outcome, list[str]]]:
    size = Live(
        minutes=options.minutes,
        changes=options.changes,
        customers=options.customers or Live().customers,
        branches=options.branches,
        hosts=options.functions,
    )
    return (live(seed, size, options.plant) for seed in seeds)


def _in_process(seeds: range, options: argparse.Namespace) -> Iterator[tuple[Outcome, list[str]]]:
    customers = options.customers or Size().customers
    if options.changes:
        size = Size(
            minutes=options.minutes, customers=customers, changes=options.changes, clerks=8, pace=2.0, sessions=16
        )
    else:
        size = Size(days=options.days, minutes=options.minutes, customers=customers)
    judge = partial(told, size=size, bug=options.plant)
    if options.workers == 1:
        yield from map(judge, seeds)
        return
    with ProcessPoolExecutor(options.workers) as pool:
        yield from pool.map(judge, seeds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
