"""Access keys: one master, one host key, one for each function; made on first use and kept in a file."""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from local.files import write_private


class Keys:
    def __init__(self, file: Path, functions: Iterable[str]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = json.loads(file.read_text()) if file.exists() else {}
        self.master: str = content.get("master") or _new()
        self.host: str = content.get("host") or _new()
        known = content.get("functions", {})
        self.functions: dict[str, str] = known | {name: known.get(name) or _new() for name in functions}
        wanted = {"master": self.master, "host": self.host, "functions": self.functions}
        if wanted != content:
            write_private(file, json.dumps(wanted, indent=1).encode())

    def is_master(self, key: str | None) -> bool:
        return _same(key, self.master)

    def opens(self, key: str | None, function: str) -> bool:
        """Whether `key` may call a function of level `function`."""
        return any(_same(key, good) for good in (self.master, self.host, self.functions[function]))


def _new() -> str:
    return secrets.token_urlsafe(40)


def _same(key: str | None, good: str) -> bool:
    return key is not None and secrets.compare_digest(key.encode(), good.encode())
