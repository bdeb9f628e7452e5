"""ASP.NET route templates as Functions uses them: `orders/{id:int}/lines/{line?}` and `files/{*path}`."""

import re
import uuid
from collections.abc import Callable, Mapping

_PARAMETER = re.compile(r"\{(\*{0,2})(\w+)((?::[^{}?]+)*)(\?)?\}")
_CONSTRAINTS: dict[str, Callable[[str], bool]] = {
    "int": lambda text: bool(re.fullmatch(r"-?\d{1,10}", text)) and -(2**31) <= int(text) < 2**31,
    "long": lambda text: bool(re.fullmatch(r"-?\d{1,19}", text)) and -(2**63) <= int(text) < 2**63,
    "guid": lambda text: _is_guid(text),
    "bool": lambda text: text.lower() in ("true", "false"),
    "alpha": lambda text: text.isascii() and text.isalpha(),
}


class Route:
    """`match` gives the parameters of a path (without prefix), or None. ValueError: a template we do not understand."""

    def __init__(self, template: str) -> None:
        self._checks: dict[str, list[Callable[[str], bool]]] = {}
        pattern, ranks = "", []
        for segment in template.strip("/").split("/"):
            part, optional = "", False
            position = 0
            for found in _PARAMETER.finditer(segment):
                stars, name, constraints, question = found.groups()
                self._checks[name] = [_constraint(c, template) for c in constraints.split(":")[1:]]
                part += re.escape(segment[position : found.start()])
                part += f"(?P<{name}>.*)" if stars else f"(?P<{name}>[^/]+)"
                optional = bool(question or stars)
                position = found.end()
            if "{" in segment[position:] or "}" in segment[position:]:
                raise ValueError(f"route {template!r}: {segment!r} is not understood")
            part += re.escape(segment[position:])
            ranks.append(0 if not position else 3 if optional else 1 if any(self._checks.values()) else 2)
            slash = "/" if pattern else ""
            pattern += f"(?:{slash}{part})?" if optional else slash + part
        self.rank = tuple(ranks)  # the lowest wins: literal, constrained, free, optional
        self._pattern = re.compile(pattern, re.IGNORECASE)

    def match(self, path: str) -> Mapping[str, str] | None:
        found = self._pattern.fullmatch(path)
        if not found:
            return None
        values = {name: value for name, value in found.groupdict().items() if value is not None}
        good = all(check(value) for name, value in values.items() for check in self._checks[name])
        return values if good else None


def _constraint(name: str, template: str) -> Callable[[str], bool]:
    if name.lower() not in _CONSTRAINTS:
        raise ValueError(f"route {template!r}: the constraint {name!r} is not known here")
    return _CONSTRAINTS[name.lower()]


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
