"""HarP, the harmonised hippocampus protocol: ADNI scans with one label file a side.

Beside the ADNI tree of the scans (or a folder of files named after their subjects) lie folders of
label files ``ADNI_002_S_0295_<number>_L.nii`` and ``..._R.nii``; those with CSF in their names
(hippocampus and the cerebrospinal fluid in it) are left alone. The two files of a scan become one
map: 1 is the left hippocampus, 2 the right one. A pair whose left side lies to the right of its
right side is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.adni import adni_scans, is_ptid
from volta3d.prepare.layouts.ida import IdaImage, ida_images
from volta3d.prepare.scan import LINK_OUT, Discovery, MergedLabel, Scan, within

DATASET = "harp"
LEFT, RIGHT = 1, 2
NAMES = {LEFT: "Left-Hippocampus", RIGHT: "Right-Hippocampus"}
LABEL = re.compile(r"ADNI_(\d{3}_S_\d{4,5})_(?:[IS]?(\d+)_)?([LR])", re.IGNORECASE)
IMAGE = re.compile(r"(?:ADNI_)?(\d{3}_S_\d{4,5})(?:_(.*))?", re.IGNORECASE)
FIX = "Fetch both label files of the scan, or take the other one away to go on without"


@dataclass(frozen=True)
class Side:
    """One label file."""

    path: Path
    subject: str
    number: str
    value: int


def matches(root: Path) -> bool:
    """Whether there are label files named as HarP does."""
    return root.is_dir() and bool(_sides(root))


def discover(root: Path) -> Discovery:
    """Every T1-weighted image of the tree, with the merged label map of those that have one."""
    images, refused = ida_images(root, is_ptid)
    labels: dict[tuple[str, str], dict[int, Path]] = {}
    for side in _sides(root):
        if within(side.path, root):
            labels.setdefault((side.subject, side.number), {})[side.value] = side.path
        else:
            refused.append((side.path, LINK_OUT))
    if not images:
        images = _flat(root)
    scans, taken = list[Scan](), set[tuple[str, str]]()
    mates = {s: [i for i in images if i.subject == s] for s in {i.subject for i in images}}
    for scan, image in zip(adni_scans(images, root, DATASET), images, strict=True):
        keys = [k for k in labels if k[0] == image.subject and k[1] in image.numbers]
        if not keys and len(mates[image.subject]) == 1:
            keys = [k for k in labels if k[0] == image.subject]
        scan, used = _labelled(scan, {k: labels[k] for k in keys})
        taken |= used
        scans.append(scan)
    for key in sorted(labels.keys() - taken):
        path = next(iter(labels[key].values()))
        what = "No scan of the source fits this label file, or more than one does"
        refused.append((path, Finding("error", "label-without-scan", what, FIX)))
    return Discovery(tuple(scans), tuple(refused))


def _labelled(
    scan: Scan, labels: dict[tuple[str, str], dict[int, Path]]
) -> tuple[Scan, set[tuple[str, str]]]:
    """A scan with its label map, and which pairs of files were used up."""
    if len(labels) != 1:
        return scan, set()
    (key, sides), used = next(iter(labels.items())), set(labels)
    if set(sides) != {LEFT, RIGHT}:
        what = f"Only the {'left' if LEFT in sides else 'right'} label file is there; not used"
        finding = Finding("warning", "one-sided-label", what, FIX)
        return replace(scan, findings=(*scan.findings, finding)), used
    parts = tuple(sorted(sides.items()))
    label = MergedLabel(parts, sides=(RIGHT, LEFT))
    return replace(scan, label=label, label_names=NAMES), {key}


def _sides(root: Path) -> list[Side]:
    found = []
    for path in sorted([*root.glob("*.nii*"), *root.glob("*/*.nii*"), *root.glob("*/*/*.nii*")]):
        match = LABEL.fullmatch(stem(path)) if is_nifti(path) else None
        if match:
            value = LEFT if match[3].upper() == "L" else RIGHT
            found.append(Side(path, match[1].upper(), str(int(match[2] or 0)), value))
    return found


def _flat(root: Path) -> list[IdaImage]:
    """Scans in plain folders, named after their subjects."""
    labels = {side.path for side in _sides(root)}
    images = []
    for path in sorted([*root.glob("*.nii*"), *root.glob("*/*.nii*")]):
        match = IMAGE.fullmatch(stem(path)) if is_nifti(path) else None
        if match and path not in labels and "csf" not in path.name.lower() and within(path, root):
            numbers = re.findall(r"(?<![0-9A-Za-z])[IS]?(\d{3,})(?![0-9])", match[2] or "")
            names = tuple(str(int(n)) for n in numbers)
            images.append(IdaImage(match[1].upper(), "", None, names, path))
    return images
