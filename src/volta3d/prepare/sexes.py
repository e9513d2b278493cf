"""Sex as M or F, whatever words or codes a table uses; a code that nobody explains is no guess."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

COLUMN = re.compile(r"(sex|gender|ptgender)(_id|_code)?\b")
WORDS = {
    "m": "M", "male": "M", "males": "M", "man": "M", "men": "M", "boy": "M",
    "f": "F", "female": "F", "females": "F", "woman": "F", "women": "F", "girl": "F",
}  # fmt: skip


def sex_of(text: str, levels: Mapping[str, str]) -> str:
    """M, F or empty.

    Args:
        text: of a cell.
        levels: what codes mean, see ``levels_of_json`` and ``levels_of_header``.
    """
    code = re.sub(r"^(-?\d+)\.0+$", r"\1", text.strip().lower())
    return WORDS.get(code) or _word(levels.get(code, ""))


def levels_of_header(column: str) -> dict[str, str]:
    """What the codes mean where a column's own name says so: ``sex (1=m, 2=f)``."""
    return {k.lower(): v for k, v in re.findall(r"(\w+)\s*=\s*(\w+)", column)}


def levels_of_json(column: Any) -> dict[str, str]:
    """What the codes mean by a column of ``participants.json``.

    Args:
        column: its entry, whose ``Levels`` (in any case) may be words, objects with a
            ``Description`` or ``Label``, or words that lead to codes.
    """
    levels = entry(column, "levels")
    if not isinstance(levels, Mapping):
        return {}
    found = {}
    for code, meaning in levels.items():
        for key in ("label", "description"):
            meaning = entry(meaning, key) or meaning
        key, text = str(code).strip().lower(), str(meaning)
        if key in WORDS and not _word(text):  # {"male": 1}
            key, text = text.strip().lower(), key
        found[key] = text
    return found


def entry(content: Any, name: str) -> Any:
    """An entry of a JSON object whatever the case of its key; None without it."""
    if not isinstance(content, Mapping):
        return None
    return next((v for k, v in content.items() if str(k).strip().lower() == name), None)


def _word(text: str) -> str:
    """The sex that a description names: "Male participant", not "male or female"."""
    named = {WORDS[w] for w in re.findall(r"[a-z]+", text.lower()) if w in WORDS}
    return named.pop() if len(named) == 1 else ""
