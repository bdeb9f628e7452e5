"""`python -m benchmarks.limits [--only history|hot|load]`: where the limits are, in this machine's figures."""

import argparse

from benchmarks.limits import history, load


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--only", choices=("history", "hot", "load"))
    only = parser.parse_args().only
    if only in (None, "history"):
        print_history(history.run(say))
    if only in (None, "hot"):
        history.hot_customer(say)
    if only in (None, "load"):
        for name, figures in load.run(say).items():
            say(f"{name}: " + ", ".join(f"{what} {_short(value)}" for what, value in figures.items()))


def print_history(found: dict[str, dict[int, dict[str, float]]]) -> None:
    say("| change | entries before | requests | operations | bytes | our ms | Dataverse's ms |")
    say("|---|---|---|---|---|---|---|")
    for kind, lengths in found.items():
        for length, cost in lengths.items():
            figures = (cost[name] for name in ("requests", "operations", "bytes"))
            times = f"{cost['ours_ms']:.1f} | {cost['theirs_ms']:.1f}"
            say(f"| {kind} | {length:,} | {' | '.join(f'{figure:,.0f}' for figure in figures)} | {times} |")


def _short(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
