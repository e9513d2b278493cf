"""nnU-Net's raw data: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``.

Version 1 writes ``modality`` and labels as number-to-name, version 2 ``channel_names`` and labels
as name-to-number; both directions are read. The four digits at the end of an image's name are its
channel: of several channels the one called T1 is taken, and nothing is guessed where none is. The
channels that are not wanted are part of the format and not counted as left out. The test images
(``imagesTs``) are left to a source of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volta3d.prepare.file_names import OTHER_WORDS, words_of
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import ending, is_image, stem, unread
from volta3d.prepare.layouts.bids_names import dataset_name
from volta3d.prepare.left_out import other_format
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import load_json, person
from volta3d.prepare.walk import entries, is_folder

DESCRIPTION = "dataset.json"
CASE = re.compile(r"(.+)_(\d{4})")
T1 = re.compile(r"t1w?|t1n|mp?rage|t1[ _-]?(weighted|mprage|native)", re.IGNORECASE)
PAIR = Finding(
    "info",
    "pair-of-one-person",
    "Crops 2k - 1 and 2k of this task are of one person and count as one participant",
)
IMAGES, LABELS = ("imagesTr", "imagesTs"), {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}


def matches(root: Path) -> bool:
    """Whether there are images with a channel's number, and labels or a description beside."""
    place = _place(root)
    if place is None:
        return False
    described = (place.parent / DESCRIPTION).is_file()
    return (described or is_folder(place.parent / LABELS[place.name])) and any(
        CASE.fullmatch(stem(p)) for p in entries(place) if ending(p)
    )


def discover(root: Path) -> Discovery:
    """The images of the T1 channel with their label maps."""
    place = _place(root)
    if place is None:
        return Discovery(())
    folder = place.parent
    content = load_json(folder / DESCRIPTION)
    names, channels = label_names(content), channel_names(content)
    dataset = "nnunet-" + dataset_name(folder, {"Name": content.get("name")})
    maps = {stem(p): p for p in entries(folder / LABELS[place.name]) if is_image(p)}
    cases, refused = _cases(place)
    scans = list[Scan]()
    for case, images in cases.items():
        wanted = _wanted(images, channels)
        image = images.get(wanted or "")
        if image is None:
            refused.append((next(iter(images.values())), _several(channels, len(images))))
            continue
        label = maps.get(case)
        outside = next((p for p in (image, label) if p is not None and not within(p, folder)), None)
        if outside is not None:
            refused.append((outside, LINK_OUT))
            continue
        findings = [*person([]).findings, *([PAIR] if participant(case) != case else [])]
        if place.name == "imagesTr" and label is None:
            what, fix = f"No label map {case} in {LABELS[place.name]}", "Fetch it if it should be"
            findings.append(Finding("warning", "missing-label", what, fix))
        scans.append(
            Scan(
                source=image,
                scan_id=slug(f"{dataset}_{case}"),
                participant_id=plain(participant(case)),
                dataset=dataset,
                label=label,
                label_names=names if label else {},
                findings=tuple(findings),
            )
        )
    lonely = [p for case, p in maps.items() if case not in cases]
    what = "A label map without an image"
    refused += [(p, Finding("error", "missing-file", what, "Fetch its image")) for p in lonely]
    return Discovery(unique(scans, folder), tuple(refused))


def participant(case: str) -> str:
    """The person of a case: of the Decathlon's hippocampi, two crops are of one (see ``msd``)."""
    crop = re.fullmatch(r"hippocampus_(\d+)", case)
    if not crop:
        return case
    last = int(crop[1]) + int(crop[1]) % 2
    return f"hippocampus_{last - 1:03d}-{last:03d}"


def label_names(content: Mapping[str, Any]) -> dict[int, str]:
    """The names of a dataset.json's labels by their values, whichever of the two comes first.

    A region of several values (``"whole tumour": [1, 2, 3]``) has no value of its own and is left
    out, as the background is.
    """
    given = content.get("labels")
    names: dict[int, str] = {}
    for key, value in given.items() if isinstance(given, dict) else ():
        number, name = (key, value) if str(key).strip().isdigit() else (value, key)
        number = number[0] if isinstance(number, list) and len(number) == 1 else number
        if str(number).strip().isdigit() and int(number) > 0 and str(name).strip():
            names.setdefault(int(number), plain(str(name)))
    return dict(sorted(names.items()))


def channel_names(content: Mapping[str, Any]) -> dict[str, str]:
    """The names of a dataset.json's channels by their numbers."""
    given = content.get("channel_names") or content.get("modality")
    if isinstance(given, list):
        return {str(n): str(name) for n, name in enumerate(given)}
    return {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}


def _place(root: Path) -> Path | None:
    """The folder of images: ``imagesTr`` of a task, or the one that was given."""
    if root.name in IMAGES:
        return root
    return next((root / name for name in IMAGES if is_folder(root / name)), None)


def _cases(place: Path) -> tuple[dict[str, dict[str, Path]], list[tuple[Path, Finding]]]:
    """Images by case and by channel, and what is no image."""
    cases: dict[str, dict[str, Path]] = {}
    refused = list[tuple[Path, Finding]]()
    for path in entries(place):
        match = CASE.fullmatch(stem(path))
        if not is_image(path):
            if name := unread(path):
                refused.append((path, other_format(name, ending(path))))
        elif match is None:
            what = "Its name does not end in the number of a channel, as nnU-Net's images do"
            finding = Finding("error", "unknown-name", what, "Name it like CASE_0000.nii.gz")
            refused.append((path, finding))
        else:
            cases.setdefault(match[1], {})[str(int(match[2]))] = path
    return cases, refused


def _wanted(images: Mapping[str, Path], channels: Mapping[str, str]) -> str | None:
    """The number of the T1 channel; that of the only one if it isn't said to be another."""
    named = [n for n, name in channels.items() if T1.fullmatch(name.strip())]
    if len(named) == 1:
        return named[0]
    if len(images) == 1 and len(channels) <= 1:
        only = next(iter(images))
        return None if _is_other(channels.get(only, "")) else only
    return None


def _is_other(name: str) -> bool:
    return bool(set(words_of(name)) & (OTHER_WORDS | {"ct", "pet"}))


def _several(channels: Mapping[str, str], count: int) -> Finding:
    listed = ", ".join(f"{n} {plain(name)}" for n, name in channels.items()) or "without names"
    what = f"{max(count, len(channels))} channels ({listed}), none of them called T1"
    fix = "Name the T1-weighted channel T1 in dataset.json, if there is one"
    return Finding("error", "not-t1", what, fix)
