"""Which id of a table is which id of a scan: compared exactly first, then ever more loosely."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

PREFIX = re.compile(r"^(sub|ses|subject|session)[-_]")


def bare(name: str) -> str:
    """An id in lower case, without ``sub-`` or ``ses-``."""
    return PREFIX.sub("", name.strip().lower())


def compact(name: str) -> str:
    """Its letters and digits alone, in lower case, without ``sub-`` or ``ses-``."""
    return re.sub(r"[^a-z0-9]", "", bare(name))


def _numbered(name: str) -> str:
    """``compact``, numbers without leading zeros: spreadsheets lose them; 1.0 of one is 1 too."""
    text = re.sub(r"^(\d+)\.0$", r"\1", bare(name))
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", compact(text))


LEVELS: tuple[Callable[[str], str], ...] = (str.strip, str.casefold, bare, compact, _numbered)


@dataclass(frozen=True)
class Matches:
    """What belongs together.

    Attributes:
        found: id of a table by id of the scans.
        unclear: those ids of the table that fit an id of the scans equally well; none was taken.
    """

    found: dict[str, str]
    unclear: dict[str, tuple[str, ...]]


def match_ids(wanted: Iterable[str], given: Iterable[str]) -> Matches:
    """Pair ids of scans with ids of a table.

    Exact pairs go first; then those equal but for case, for ``sub-``, for punctuation, and for
    leading zeros. What has been paired is out of the game, so ``sub-1`` and ``sub-01`` never share
    a row. Where one step leaves two candidates on either side, nothing is paired.

    Args:
        wanted: ids of the scans.
        given: ids of the table.
    """
    left, free = list(dict.fromkeys(wanted)), list(dict.fromkeys(given))
    found: dict[str, str] = {}
    unclear: dict[str, tuple[str, ...]] = {}
    for level in LEVELS:
        groups: dict[str, tuple[list[str], list[str]]] = {}
        for side, names in enumerate((left, free)):
            for name in names:
                if key := level(name):
                    groups.setdefault(key, ([], []))[side].append(name)
        for ours, theirs in groups.values():
            if len(ours) == len(theirs) == 1:
                found[ours[0]] = theirs[0]
            elif ours and theirs:
                unclear |= {name: tuple(theirs) for name in ours}
        taken = set(found.values()) | {name for names in unclear.values() for name in names}
        left = [name for name in left if name not in found and name not in unclear]
        free = [name for name in free if name not in taken]
    return Matches(found, unclear)
