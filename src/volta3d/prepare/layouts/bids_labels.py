"""Label maps of BIDS derivatives, and which scan each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.bids_names import entities
from volta3d.prepare.scan import within
from volta3d.prepare.tables import label_names
from volta3d.prepare.walk import files_below, folders

# Entities that say which acquisition a label map belongs to; desc, seg, atlas and the like do not.
ACQUISITION = ("ses", "acq", "ce", "rec", "run", "echo", "part")
LABELS_OUT = Finding(
    "warning",
    "labels-behind-link",
    "Its label map lies behind a link that leaves the source or leads nowhere, and was not used",
    "Copy the label maps into the folder, or fetch their content (datalad get)",
)
NATIVE_SPACES = {"t1w", "orig", "native", "individual"}


@dataclass(frozen=True)
class LabelFile:
    """A ``*_dseg`` file of a derivative and the entities in its name."""

    path: Path
    entities: Mapping[str, str]
    derivative: Path


@dataclass(frozen=True)
class FoundLabels:
    """Label maps of a data set.

    Args:
        of: by participant (lower case), in the order of their paths.
        lost: participants of whom a label map is a link that leaves the source.
        outside: whether a whole folder of them is such a link.
    """

    of: Mapping[str, list[LabelFile]]
    lost: frozenset[str] = frozenset()
    outside: bool = False


def label_files(root: Path, places: Sequence[Path] = ()) -> FoundLabels:
    """Label maps in scan space.

    Args:
        root: the data set.
        places: folders of derivatives; the data set's own if none is given.
    """
    found: dict[str, list[LabelFile]] = {}
    lost, outside = set[str](), False
    for derivatives in places or (root / "derivatives",):
        base = derivatives.parent
        outside = outside or (derivatives.is_symlink() and not within(derivatives, base))
        if outside:
            continue
        for subject in [s for d in folders(derivatives) for s in folders(d)]:
            if not subject.name.startswith("sub-"):
                continue
            for path in files_below(subject):
                if not (is_nifti(path) and stem(path).endswith("_dseg")):
                    continue
                named = entities(path)
                if named.get("space", "T1w").lower() not in NATIVE_SPACES:
                    continue
                if not within(path, base) or not path.is_file():
                    lost.add(subject.name.lower())
                    continue
                label = LabelFile(path, named, subject.parent)
                found.setdefault(subject.name.lower(), []).append(label)
        outside = outside or any(not within(d, base) for d in folders(derivatives))
    return FoundLabels(found, frozenset(lost), outside)


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
        if agree(label.entities, image):
            rivals = {_acquisition(s) for s in siblings if agree(label.entities, s)}
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


def agree(label: Mapping[str, str], image: Mapping[str, str]) -> bool:
    """Whether a label map names no other acquisition than an image does."""
    return all(label[key] == image.get(key) for key in ACQUISITION if key in label)


def _acquisition(image: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(image.get(key, "") for key in ACQUISITION)
