"""What an image says of itself, in a DICOM header or a JSON file, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from volta3d.prepare.findings import Finding
from volta3d.prepare.vocabulary import is_t1

PROJECTIONS = {
    "MIP", "MINIP", "PROJECTION IMAGE", "SUBTRACTION", "SUBTRACT", "MPR", "CSA MPR", "CSAPARALLEL",
    "REFORMATTED", "SCREEN SAVE",
}  # fmt: skip
PARTS = {
    "P": "phase", "PHASE": "phase", "PHASE MAP": "phase", "PHASE_MAP": "phase", "R": "real",
    "REAL": "real", "I": "imaginary", "IMAGINARY": "imaginary",
}  # fmt: skip
MAPS = {"ADC", "FA", "TRACEW", "FMRI", "MOSAIC", "DIFFUSION", "MAP"}
NOTHING_TO_DO = "Nothing to do, unless it should have been a T1-weighted scan"
CONTRAST_FIX = "Don't mix with scans without one"


@dataclass(frozen=True)
class Claims:
    """What an image says of itself.

    Args:
        words: of its image type, of a fixed vocabulary.
        hints: of its descriptions and names, of a fixed vocabulary.
        body: ``head``, ``other``, or empty.
        contrast: whether a contrast agent is named.
        echo_time, repetition_time, inversion_time: ms, NaN when unknown.
    """

    words: frozenset[str] = frozenset()
    hints: frozenset[str] = frozenset()
    body: str = ""
    contrast: bool = False
    echo_time: float = math.nan
    repetition_time: float = math.nan
    inversion_time: float = math.nan

    @property
    def part(self) -> str:
        """phase, real or imaginary; empty for a magnitude."""
        return next((PARTS[w] for w in sorted(self.words) if w in PARTS), "")

    @property
    def t1(self) -> bool | None:
        """Whether it is T1-weighted; None if that cannot be told."""
        return is_t1(self.hints, self.echo_time, self.repetition_time, self.inversion_time)


def refusal(claims: Claims) -> Finding | None:
    """Why an image isn't a T1-weighted scan of a head; None if nothing it says is against it."""
    words, hints = claims.words, claims.hints
    if claims.part:
        return _error("not-magnitude", f"A {claims.part} picture, not a magnitude")
    if "LOCALIZER" in words or "localiser" in hints:
        return _error("localiser", "A localiser")
    if words & PROJECTIONS:
        what = "A projection, a reformat or a subtraction, not the acquired volume"
        return Finding("error", "derived", what, "Give the original series")
    if words & MAPS or "map" in hints:
        return _error("not-t1", "A map of measured values, not a T1-weighted scan")
    if "inversion-pair" in hints:
        what = "One of the two inversion images of MP2RAGE, not a T1-weighted scan"
        return _error("not-t1", what)
    if claims.t1 is False:
        return _error("not-t1", "Not T1-weighted by its description or timing")
    if "other-body" in hints and "head" not in hints and claims.body != "head":
        return _error("other-body-part", "Of another body part than the head, by its description")
    if claims.body == "other" and not hints & {"head", "t1"}:
        return _error("other-body-part", "Of another body part than the head, by its header")
    return None


def remarks(claims: Claims) -> Iterator[Finding]:
    """What a person should know about an image that is not refused."""
    if claims.body == "other" or "other-body" in claims.hints:
        what = "Its description or header names another body part than the head"
        yield Finding("warning", "other-body-part", what, "Look at it in qc/index.html")
    if "part-of-head" in claims.hints:
        what = "By its description it shows a part of the head only"
        yield Finding("warning", "part-of-head", what, "Look at it in qc/index.html")
    if claims.contrast:
        yield Finding("warning", "contrast-agent", "A contrast agent was given", CONTRAST_FIX)
    elif "contrast" in claims.hints and "native" not in claims.hints:
        what = "A contrast agent was given, by its description"
        yield Finding("warning", "contrast-agent", what, CONTRAST_FIX)
    if "uniform" in claims.hints or "UNI" in claims.words:
        what = "The uniform image of MP2RAGE: T1-weighted, with noise where there is no head"
        yield Finding("warning", "mp2rage-uniform", what, "Don't mix with ordinary T1w scans")


def _error(code: str, what: str) -> Finding:
    return Finding("error", code, what, NOTHING_TO_DO)
