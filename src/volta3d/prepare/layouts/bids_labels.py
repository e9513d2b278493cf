"""Label maps of BIDS derivatives, and which scan each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts.bids_names import entities
from volta3d.prepare.nifti import is_nifti, stem
from volta3d.prepare.scan import within
from volta3d.prepare.tables import label_names

# Entities that say which acquisition a label map belongs to; desc, seg, atlas and the like do not.
ACQUISITION = ("ses", "acq", "ce", "rec", "run", "echo", "part")
NATIVE_SPACES = {"t1w", "orig", "native", "individual"}


@dataclass(frozen=True)
class LabelFile:
    """A ``*_dseg`` file of a derivative and the entities in its name."""

    path: Path
    entities: Mapping[str, str]
    derivative: Path


def label_files(root: Path) -> dict[str, list[LabelFile]]:
    """Label maps in scan space by participant (lower case), in the order of their paths."""
    found: dict[str, list[LabelFile]] = {}
    derivatives = root / "derivatives"
    for path in sorted(derivatives.glob("*/sub-*/**/*_dseg.nii*")):
        named = entities(path)
        native = named.get("space", "T1w").lower() in NATIVE_SPACES
        if not (native and is_nifti(path) and within(path, root)):
            continue
        derivative, subject = path.relative_to(derivatives).parts[:2]
        label = LabelFile(path, named, derivatives / derivative)
        found.setdefault(subject.lower(), []).append(label)
    return found


def matching_label(
    image: Mapping[str, str],
    siblings: Sequence[Mapping[str, str]],
    candidates: Sequence[LabelFile],
) -> tuple[LabelFile | None, tuple[Finding, ...]]:
    """The label map of an image, when no other acquisition of the same person fits it as well.

    Args:
        image: its entities.
        siblings: the entities of all images of the person, this one included.
        candidates: the label maps of the person.
    """
    fitting: list[LabelFile] = []
    unsure: list[LabelFile] = []
    for label in candidates:
        if _agree(label.entities, image):
            rivals = {_acquisition(s) for s in siblings if _agree(label.entities, s)}
            (fitting if len(rivals) == 1 else unsure).append(label)
    if len(fitting) > 1:
        what = f"{len(fitting)} label maps; took the one of {fitting[0].derivative.name}"
        return fitting[0], (Finding("warning", "several-labels", what),)
    if fitting:
        return fitting[0], ()
    if unsure:
        what = f"{unsure[0].path.name} could belong to several scans and was left out"
        fix = "Name the label map with the session and run of its scan"
        return None, (Finding("warning", "ambiguous-label", what, fix),)
    return None, ()


def names_of(label: LabelFile) -> dict[int, str]:
    """From the table beside the label map, else from that of its derivative or of the data set."""
    beside = label.path.with_name(stem(label.path) + ".tsv")
    tables = [beside, label.derivative / "dseg.tsv", *sorted(label.derivative.glob("*_dseg.tsv"))]
    tables.append(label.derivative.parent.parent / "dseg.tsv")
    return next((label_names(t) for t in tables if t.is_file()), {})


def _agree(label: Mapping[str, str], image: Mapping[str, str]) -> bool:
    return all(label[key] == image.get(key) for key in ACQUISITION if key in label)


def _acquisition(image: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(image.get(key, "") for key in ACQUISITION)
