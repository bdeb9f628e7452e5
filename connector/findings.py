"""What the doctor says."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """UNKNOWN: it could not be looked at. WARNING: it works, but should not stay so. WRONG: it will not work."""

    GOOD = "good"
    UNKNOWN = "unknown"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """`says` is what is found, `do` what to click or run."""

    level: Level
    about: str
    says: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.level.upper():8} {self.about}: {self.says}" + (f". {self.do}" if self.do else "")
