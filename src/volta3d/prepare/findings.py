"""Findings as data: what was noticed about a scan, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, Self

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One observation.

    Args:
        level: info is worth knowing, warning was put right or is suspicious, error keeps the scan
            out of the cohort.
        code: short and stable, for tables and tests.
        what: one sentence.
        how_to_fix: one sentence, empty when nothing needs doing.
    """

    level: Level
    code: str
    what: str
    how_to_fix: str = ""

    def content(self) -> dict[str, str]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_content(cls, content: dict[str, str]) -> Self:
        """The inverse of ``content``."""
        return cls(**content)  # type: ignore[arg-type]


class Refused(Exception):
    """A scan that cannot be prepared; never leaves ``prepare``, it ends in ``quarantine.tsv``."""

    def __init__(self, code: str, what: str, how_to_fix: str) -> None:
        self.finding = Finding("error", code, what, how_to_fix)
        super().__init__(f"{code}: {what}")
