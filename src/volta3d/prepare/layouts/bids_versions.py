"""Which image of several: echoes, reconstructions and processed versions of one acquisition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from volta3d.prepare.file_names import not_t1, remarks_on_name
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import stem
from volta3d.prepare.layouts.bids_labels import NATIVE_SPACES, LabelFile, agree
from volta3d.prepare.layouts.bids_names import entities
from volta3d.prepare.scan import plain
from volta3d.prepare.sidecar import echo_time

PROCESSED = ("space", "desc", "res", "den", "label", "split")  # entities of derivatives
ONE = ("ses", "acq", "ce", "run")  # entities that tell acquisitions apart
# T1w is meant: a name that ends in it says no more than its entities do
remarkable = not_t1


def chosen(
    images: Iterable[Path], labels: Sequence[LabelFile]
) -> Iterable[tuple[Path, tuple[Finding, ...]]]:
    """One image per acquisition of a person, with what was noticed.

    Of several echoes the shortest is taken, of several reconstructions one with a label map, else
    one that names none, and of several versions the least processed.

    Args:
        images: of one person, magnitudes all of them.
        labels: the person's label maps.
    """
    acquisitions: dict[tuple[str, ...], list[Path]] = {}
    for image in images:
        named = entities(image)
        acquisitions.setdefault(tuple(named.get(k, "") for k in ONE), []).append(image)
    for several in acquisitions.values():
        kept, findings = _first_echo(several)
        kept.sort(key=lambda p: _rank(p, labels))
        best = kept[0]
        if len(kept) > 1:
            recs = {entities(p).get("rec", "") for p in kept}
            kind = "reconstructions" if len(recs) == len(kept) else "versions"
            what = f"{len(kept)} {kind} of one image; took {stem(best)}"
            findings.append(Finding("info", "several-versions", what))
        space = entities(best).get("space", "T1w")
        if space.lower() not in NATIVE_SPACES:
            what = f"Resampled to another space before ({plain(space)})"
            findings.append(Finding("info", "resampled-before", what))
        yield best, (*findings, *remarks_on_name(best))


def _rank(image: Path, labels: Sequence[LabelFile]) -> tuple[bool, int, bool, str]:
    named = entities(image)
    labelled = any("rec" in label.entities and agree(label.entities, named) for label in labels)
    return not labelled, sum(k in named for k in PROCESSED), "rec" in named, image.name


def _first_echo(images: list[Path]) -> tuple[list[Path], list[Finding]]:
    """The images of the shortest echo, by their JSON files, else by the numbers in their names."""
    echoes = sorted({entities(p).get("echo", "") for p in images}, key=_number)
    if len(echoes) < 2:
        return list(images), []
    times = {p: echo_time(p) for p in images}
    if all(math.isfinite(t) for t in times.values()):
        first = entities(min(images, key=lambda p: (times[p], p.name))).get("echo", "")
    else:
        first = echoes[0]
    what = f"{len(echoes)} echoes; took the {'combined' if first == '' else 'shortest'}"
    what += f" (echo-{plain(first)})" if first else " one"
    kept = [p for p in images if entities(p).get("echo", "") == first]
    return kept, [Finding("info", "multi-echo", what)]


def _number(echo: str) -> tuple[bool, int, str]:
    return bool(echo), int(echo) if echo.isdigit() else 0, echo
