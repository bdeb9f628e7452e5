"""`python -m local COMMAND ...`: the stand-ins for the cloud, one by one or all together."""

import importlib
import sys

COMMANDS = {
    "up": ("local.up", "start everything and keep it running"),
    "demo": ("local.demo", "start everything and let real purchases flow through it"),
    "entra": ("local.entra.cli", "the token endpoint alone"),
    "dataverse": ("local.dataverse.cli", "the Dataverse Web API alone"),
    "servicebus": ("local.servicebus.cli", "the Service Bus broker alone"),
    "dynamics": ("local.dynamics.cli", "the Dynamics shell alone: sign-in, forms, dialogs"),
    "functions": ("local.functions.cli", "the Functions host alone"),
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        asked_for_help = bool(argv) and argv[0] in ("-h", "--help")
        lines = ["usage: python -m local COMMAND ...", ""]
        lines += [f"  {name:<11} {about}" for name, (_, about) in COMMANDS.items()]
        print("\n".join(lines), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    # only the chosen part is imported: each is a process of its own and should start fast
    return int(importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
