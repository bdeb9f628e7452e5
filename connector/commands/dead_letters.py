"""connector dead-letters"""

import argparse

from connector.app import App

HELP = "list messages that failed at every delivery, or send them again"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resubmit", action="store_true", help="send them again now, in order")


def run(app: App, arguments: argparse.Namespace) -> int:
    if arguments.resubmit:
        done = app.dead_letters.resubmit()
        print(done)
        return 0 if done.answers else 2
    count = 0
    for letter in app.dead_letters.waiting():
        count += 1
        since = f"{letter.enqueued_on:%Y-%m-%d %H:%M:%S}" if letter.enqueued_on else "-"
        rounds = f", sent again {letter.round} times" if letter.round else ""
        print(f"{letter.queue} {since} {letter.session}{rounds}: {letter.reason} {letter.description}".rstrip())
    print(f"{count} dead letters")
    return 1 if count else 0
