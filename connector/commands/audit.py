"""connector audit"""

import argparse
import json
import sys

from connector.app import App
from connector.audit import Audit, Part, Report
from connector.rows.programs import read_program

HELP = "prove the laws of the ledger from the rows alone"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="write memberships and mirrored columns anew where they differ from the ledger",
    )
    parser.add_argument(
        "--part",
        type=_part,
        default=Part(),
        metavar="N/M",
        help="the N-th of M parts of the customers, so that M processes share them; the first looks at the rest too",
    )


def run(app: App, arguments: argparse.Namespace) -> int:
    program = read_program(app.client, app.settings.loyalty_program)
    shown = sys.stderr.isatty()

    def told(violation: str) -> None:
        if not arguments.json:
            print(f"  broken: {violation}", flush=True)

    audit = Audit(app.client, program, app.now(), repair=arguments.repair, part=arguments.part, told=told)
    report = audit.run(_progress if shown else lambda report: None)
    if shown:
        print(file=sys.stderr)
    if arguments.json:
        found = {"holds": report.holds, "counts": report.counts, "broken": report.broken}
        print(json.dumps(found | {"violations": report.violations}))
    else:
        print("audit: " + ", ".join(f"{count} {what}" for what, count in report.counts.items()))
        print("every law of the ledger holds" if report.holds else f"{report.broken} violations")
    return 0 if report.holds else 1


def _part(text: str) -> Part:
    try:
        return Part.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _progress(report: Report) -> None:
    counts = report.counts
    print(f"\r{counts['customers']} customers, {counts['entries']} entries ...", end="", file=sys.stderr, flush=True)
