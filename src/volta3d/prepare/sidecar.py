"""What the JSON file beside a NIfTI file says about it (BIDS, dcm2niix)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from volta3d.prepare.claims import Claims, refusal, remarks
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import stem
from volta3d.prepare.scan import Scan
from volta3d.prepare.tables import load_json
from volta3d.prepare.vocabulary import body_part, hints, image_words, names_agent

FIX = "If it is a T1-weighted scan, correct the JSON file beside it"
DESCRIBING = (
    "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "PulseSequenceType",
)  # fmt: skip
LATE_ECHO = 30.0  # ms


def sidecar_claims(image: Path, *, inherited: Path | None = None) -> Claims | None:
    """What the JSON file of an image says; None without one.

    Args:
        image: its file.
        inherited: a JSON file whose fields hold where the image's own says nothing.
    """
    beside = image.with_name(stem(image) + ".json")
    content = load_json(inherited) if inherited is not None and inherited.is_file() else {}
    content = {**content, **(load_json(beside) if beside.is_file() else {})}
    return claims_of(content) if content else None


def claims_of(content: Mapping[str, Any]) -> Claims:
    """Claims of the fields of a JSON file; its times are in seconds."""
    described = " ".join(str(content.get(key, "")) for key in DESCRIBING)
    agent = str(content.get("ContrastBolusAgent") or content.get("ContrastBolusIngredient") or "")
    kind = content.get("ImageType")
    words = image_words(map(str, kind)) if isinstance(kind, list) else frozenset[str]()
    return Claims(
        words=words,
        hints=hints(described, str(content.get("ScanningSequence", ""))),
        body=body_part(str(content.get("BodyPartExamined", ""))),
        contrast=names_agent(agent),
        echo_time=_milliseconds(content.get("EchoTime")),
    )


def judged(scan: Scan, inherited: Path | None = None) -> tuple[Scan, Finding | None]:
    """A scan with what its JSON file makes notable, and why it must be refused if it must."""
    claims = None if scan.series else sidecar_claims(scan.source, inherited=inherited)
    if claims is None:
        return scan, None
    reason = refusal(replace(claims, echo_time=math.nan))
    if reason is not None:
        what = f"{reason.what} (by the JSON file beside it)"
        return scan, Finding("error", reason.code, what, FIX)
    noticed = list(remarks(claims))
    if claims.echo_time > LATE_ECHO and "t1" not in claims.hints:
        what = f"An echo time of {claims.echo_time:g} ms is not that of a T1-weighted scan"
        noticed.append(Finding("warning", "weighting-doubtful", what, FIX))
    known = {f.code for f in scan.findings}
    new = tuple(f for f in noticed if f.code not in known)
    return replace(scan, findings=(*scan.findings, *new)), None


def echo_time(image: Path) -> float:
    """The echo time in ms that the JSON file of an image gives; NaN without one."""
    claims = sidecar_claims(image)
    return math.nan if claims is None else claims.echo_time


def _milliseconds(value: object) -> float:
    return 1000 * float(value) if isinstance(value, int | float) else math.nan
