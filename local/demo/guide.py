"""Where to look, for the person who has just seen the demo."""

import shlex
from pathlib import Path
from typing import Any

from connector.identity import Customer


def guide(home: Path, endpoints: dict[str, Any], customer: Customer) -> str:
    """Addresses and commands; secrets stay in the files that the commands name."""
    here = shlex.quote(str(home))
    rows = [
        ("Dynamics", f"{endpoints['dynamics_url']}/signin  as Clara Clerk, Adam Admin or Sam Salesperson"),
        ("", f"(the browser must trust {home}/tls/ca.pem, or you accept its warning)"),
        ("HTTP API", f"curl -H @{here}/function-key.header {endpoints['functions_url']}/api/customers/{customer}"),
        ("Commands", f"(. {here}/settings.env && .venv/bin/python -m connector status)"),
        ("", "and likewise audit, explain, export, resume, ...: python -m connector --help"),
        ("Dataverse", f"{endpoints['dataverse_url']}/api/data/v9.2/  (tokens: {endpoints['authority']})"),
        ("Files", f"{home}/endpoints.json has all addresses and secrets, {home}/logs what the parts said"),
        ("Later", f".venv/bin/python -m local up --program CJ --home {here}  goes on with these rows"),
    ]
    lines = [f"  {name:<10} {what}" for name, what in rows]
    return "\n".join(["The stack stays up until Ctrl-C. Look around:", "", *lines])
