"""`python -m benchmarks.chaos --seeds 1..200`: exits with 1 and tells why when a law was broken."""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from benchmarks.chaos.planted import BUGS
from benchmarks.chaos.report import HEADER
from benchmarks.chaos.run import Size, told


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", metavar="A..B", help="seeds from A to B")
    parser.add_argument("--minutes", type=float, default=Size().minutes, help="of work a day, in virtual time")
    parser.add_argument("--days", type=int, default=Size().days)
    parser.add_argument("--customers", type=int, default=Size().customers)
    parser.add_argument("--workers", type=int, default=1, help="seeds at once")
    parser.add_argument("--plant", choices=sorted(BUGS), default="", help="a bug to be caught")
    options = parser.parse_args(argv)
    first, _, last = (options.seeds or str(options.seed or 1)).partition("..")
    seeds = range(int(first), int(last or first) + 1)
    size = Size(days=options.days, minutes=options.minutes, customers=options.customers)
    print(HEADER, flush=True)
    broken = 0
    with ProcessPoolExecutor(options.workers) as pool:
        judge = partial(told, size=size, bug=options.plant)
        for outcome, lines in map(judge, seeds) if options.workers == 1 else pool.map(judge, seeds):
            print(outcome.line(), flush=True)
            for line in lines:
                print(f"    {line}", flush=True)
            broken += not outcome.holds
    print(f"{len(seeds)} seeds, {broken} of them broke a law.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
