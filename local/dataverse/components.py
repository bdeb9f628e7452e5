"""Solution components: which parts of an environment belong to which solution.

Everything that a solution can carry has an id: tables, columns, keys, relationships and choices have it in their definition,
the others are rows. `solutioncomponent` says which solutions hold them. The solution `Active` stands for what was made
or kept without a managed solution.
"""

import uuid
from typing import TYPE_CHECKING

from local.dataverse.errors import Fault

if TYPE_CHECKING:
    from local.dataverse.records import Unit

TABLE, COLUMN, CHOICE, RELATIONSHIP, KEY = 1, 2, 9, 10, 14
DEFINITIONS = {"table": TABLE, "column": COLUMN, "relationship": RELATIONSHIP, "optionset": CHOICE, "key": KEY}
ROWS = {
    "appaction": 10116, "appmodule": 80, "sitemap": 62, "systemform": 60, "savedqueryvisualization": 59, "savedquery": 26,
    "environmentvariablevalue": 381, "environmentvariabledefinition": 380, "role": 20,
    "fieldsecurityprofile": 70,
    "sdkmessageprocessingstepimage": 93, "sdkmessageprocessingstep": 92,
    "serviceendpoint": 95, "webresource": 61,
}  # fmt: skip
"""Tables whose rows are components -> component type; in the order in which they can be deleted."""
ALL, LISTED, SHELL = 0, 1, 2
"""`rootcomponentbehavior` of a table: with everything below it, with what is listed, by name only."""


def solution_id(unit: "Unit", name: str) -> str:
    row = unit.connection.execute("SELECT solutionid FROM solution WHERE uniquename = ?", (name,)).fetchone()
    if row is None:
        raise Fault(400, "0x80048425", f"The solution with the unique name '{name[:100]}' does not exist.")
    return str(row[0])


def add(unit: "Unit", solution: str | None, kind: int, object_id: str, behavior: int = ALL) -> None:
    """Notes a part in a solution, once; an unknown solution is refused."""
    if not solution:
        return
    holder = solution_id(unit, solution)
    held = unit.connection.execute(
        "SELECT 1 FROM solutioncomponent WHERE objectid = ? AND solutionid = ?", (object_id, holder)
    ).fetchone()
    if held is None:
        unit.connection.execute(
            "INSERT INTO solutioncomponent (solutioncomponentid, solutionid, componenttype, objectid, "
            "rootcomponentbehavior, createdon, modifiedon, versionnumber) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (str(uuid.uuid4()), holder, kind, object_id, behavior, unit.moment, unit.moment, unit.env.next_version()),
        )


def keep(unit: "Unit", kind: int, object_id: str) -> None:
    """A managed solution brings what is there already: what was there stays when the solution goes."""
    managed = unit.connection.execute(
        "SELECT 1 FROM solutioncomponent c JOIN solution s ON s.solutionid = c.solutionid "
        "WHERE c.objectid = ? AND s.ismanaged = 1",
        (object_id,),
    ).fetchone()
    if managed is None:
        add(unit, "Active", kind, object_id)


def dropped(unit: "Unit", object_id: str) -> None:
    unit.connection.execute("DELETE FROM solutioncomponent WHERE objectid = ?", (object_id,))


# --- what a solution does to parts that stay whose they are: options of a choice, tabs of a form, ribbons ---


def note_layer(unit: "Unit", solution: str, kind: str, part: str, content: str = "") -> None:
    unit.connection.execute('INSERT OR REPLACE INTO "#layer" VALUES (?, ?, ?, ?)', (solution, kind, part, content))


def is_layer(unit: "Unit", kind: str, part: str) -> bool:
    """Whether any solution put that part there."""
    found = unit.connection.execute('SELECT 1 FROM "#layer" WHERE kind = ? AND part = ?', (kind, part)).fetchone()
    return found is not None


def layers(unit: "Unit", solution: str) -> list[tuple[str, str, str]]:
    """[(kind, part, content)] of a solution."""
    found = unit.connection.execute(
        'SELECT kind, part, content FROM "#layer" WHERE solution = ? ORDER BY kind, part', (solution,)
    )
    return [(kind, part, content) for kind, part, content in found]
