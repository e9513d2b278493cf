"""One scan a person: of the scans with a wanted label, that of the first visit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

BASELINE = ("bl", "sc", "scmri", "baseline", "screening", "init")
MONTH = re.compile(r"(?:ses-)?m?0*(\d{1,3})(?:[ _-]?month.*)?", re.IGNORECASE)
Visit = tuple[float, str, float, str, int]


def first_visits(rows: Sequence[int], people: Any) -> dict[int, tuple[str, str]]:
    """The scans to leave out, and why.

    Visits are ordered by their session (baseline, then months, or days as 2006-04-18), else by the
    age at the scan, else by name; of two scans of one visit the first by name is kept.

    Args:
        rows: of the scans with a label, in the cohort.
        people: the cohort's participants.
    """
    first: dict[str, Visit] = {}
    for row in rows:
        person, visit = str(people["participant_id"].iloc[row]), _visit(people.iloc[row], row)
        first[person] = min(first.get(person, visit), visit)
    kept = {visit[-1] for visit in first.values()}
    why = ("later-visit", "Another scan of this person is the first with one of the classes")
    return {row: why for row in rows if row not in kept}


def _visit(about: Any, row: int) -> Visit:
    session = str(about.get("session", "") or "").strip().lower()
    month, age = MONTH.fullmatch(session), about.get("age", math.nan)
    rank = 0.0 if session in BASELINE else float(month[1]) if month else math.inf
    years = float(age) if isinstance(age, int | float) and age == age else math.inf
    day = session if re.match(r"\d{4}-\d{2}", session) else ""
    return rank, day, years, str(about.get("scan_id", "")), row
