"""Queries other than OData's own: `fetchXml`, `savedQuery`, `userQuery`, `sql`, `$apply`."""

from typing import TYPE_CHECKING

from local.dataverse.errors import Fault
from local.dataverse.model import Table
from local.dataverse.projection import Run
from local.dataverse.queries import Options
from local.dataverse.responses import Response

if TYPE_CHECKING:
    from local.dataverse.environment import Environment
    from local.dataverse.service import Request


def handle(env: "Environment", request: "Request", table: Table, options: Options, run: Run) -> Response | None:
    for name in ("fetchXml", "savedQuery", "userQuery", "sql", "$apply"):
        if options.get(name) is not None:
            raise Fault(501, "0x80060888", f"The query option '{name}' is not supported.")
    return None
