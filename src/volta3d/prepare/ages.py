"""Ages in whatever unit a table gives them: by the cell, by participants.json, by the header."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

OLDEST = 120.0
DAYS = {"years": 365.25, "months": 365.25 / 12, "weeks": 7.0, "days": 1.0}
SHORT = {"y": "years", "m": "months", "w": "weeks", "d": "days", "a": "years"}
WORDS = {
    "year": "years", "years": "years", "yr": "years", "yrs": "years", "yo": "years",
    "annum": "years", "month": "months", "months": "months", "mo": "months", "mos": "months",
    "mth": "months", "mths": "months", "week": "weeks", "weeks": "weeks", "wk": "weeks",
    "wks": "weeks", "day": "days", "days": "days",
}  # fmt: skip
AGE = re.compile(
    r"(?:subject|participant|patient)?s?age(?:atthetimeof|at|of|on|during)?"
    r"(?:scan|scanning|session|visit|mri|imaging|acquisition|exam|examination|baseline|enrol+ment"
    r"|inclusion|study|test|testing|entry|date)?"
)
CELL = re.compile(r"([0-9]+(?:[.,][0-9]+)?)\s*-?\s*([a-z]*)\.?(?:\s*old)?")
UNKNOWN = "unknown"  # a unit that is none of those above


def unit_of_column(column: str) -> str | None:
    """The unit that a column of ages says in its own name; "" without one, None of other columns.

    ``age``, ``age_months``, ``Age (days)``, ``AgeAtScan``, ``age_at_visit [weeks]``.
    """
    words = [w for w in re.split(r"[^a-z]+", column.lower()) if w]
    if not words:
        return None
    whole, last = "".join(words), words[-1]
    if AGE.fullmatch(whole):
        return ""
    unit = WORDS.get(last) or SHORT.get(last)
    head = "".join(words[:-1]).removesuffix("in")
    if unit and head and AGE.fullmatch(head):
        return unit
    for word, long in WORDS.items():  # written without a break: agemonths
        head = whole.removesuffix(word).removesuffix("in")
        if len(word) > len("yr") and whole.endswith(word) and AGE.fullmatch(head):
            return long
    return None


def unit_of_text(text: str) -> str:
    """The unit that a text such as "Months" or "yr" names; "" of none, UNKNOWN of another one."""
    word = re.sub(r"[^a-z]", "", text.lower())
    return WORDS.get(word) or SHORT.get(word) or (UNKNOWN if word else "")


def unit_of_sentence(text: str) -> str:
    """The unit that a description such as "Age at scan in months" names; "" without one."""
    named = {WORDS[w] for w in re.findall(r"[a-z]+", text.lower()) if len(w) > 2 and w in WORDS}
    return named.pop() if len(named) == 1 else ""


def age_in_years(text: str, units: Iterable[str] = ()) -> float:
    """An age in years; NaN of text that gives none, or one that nobody reaches.

    Args:
        text: a number, with a unit or without: ``35,8``, ``034Y``, ``012M``, ``18 months``.
        units: what the table says about the column; where the cell names no unit, these must
            agree, and years are meant where nothing is said.
    """
    match = CELL.fullmatch(text.strip().lower())
    if match is None:
        return math.nan
    named = {unit_of_text(match[2])} - {""} or {u for u in units if u} or {"years"}
    if len(named) != 1 or not named <= DAYS.keys():
        return math.nan
    age = float(match[1].replace(",", ".")) * DAYS[named.pop()] / DAYS["years"]
    return age if 0 <= age <= OLDEST else math.nan
