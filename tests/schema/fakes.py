"""An environment with Dynamics 365 Sales and nothing of ours, as far as an installer's first run asks; it records writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connector.dataverse import NotFound

STANDARD = ("account", "contact", "invoicedetail")
RATING = {"LogicalName": "accountratingcode", "OptionSet": {"Options": [{"Value": 1, "Label": {}}]}}


@dataclass
class Answer:
    body: Any = None
    status: int = 200

    def json(self) -> Any:
        return self.body


@dataclass
class EmptyEnvironment:
    privileges: frozenset[str] = frozenset()
    writes: list[tuple[str, str, Any]] = field(default_factory=list)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        if method != "GET":
            self.writes.append((method, path, body))
            return Answer(status=204)
        if path.startswith("EntityDefinitions("):
            if not any(f"'{name}'" in path for name in STANDARD):
                raise NotFound("no such table", status=404)
            if "PicklistAttributeMetadata" in path:
                return Answer({"value": [RATING] if "'account'" in path else []})
            return Answer({"value": []} if "/" in path else {"LogicalName": "x"})
        if path.startswith("businessunits"):
            return Answer({"value": [{"businessunitid": "root"}]})
        if path.startswith("entities?"):
            return Answer({"value": [{"entityid": f"id of {path.rpartition(' ')[2]}"}]})
        if path.startswith("privileges"):
            return Answer({"value": [{"name": name, "privilegeid": name} for name in self.privileges]})
        if "(" in path.partition("?")[0]:
            raise NotFound("no such row", status=404)
        return Answer({"value": []})

    def posted(self, path: str) -> list[Any]:
        return [body for method, where, body in self.writes if method == "POST" and where == path]
