"""Folders of label maps: volta3d's, FreeSurfer's, FastSurfer's or anybody's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volta3d.errors import VoltaError
from volta3d.evaluate.segmentation.labelmaps import is_labelmap, is_mgh, name_of
from volta3d.prepare.formats import ending
from volta3d.prepare.tables import label_names

ENTITIES = ("sub", "ses", "acq", "run")
SCANS = ("t1w", "t2w", "flair", "bold")  # endings of scans, which are no label maps
LABELS = ("dseg", "aseg", "seg", "segmentation", "label", "labels", "hippocampus")
MASKS = ("mask",)
ENDING = re.compile(r"[_.](dseg|aseg|seg|segmentation|labels?|mask|hippocampus)$", re.IGNORECASE)
GENERIC = ("aseg", "aparc", "dseg", "seg", "segmentation", "label", "labels", "mask")
# In SUBJECT/mri: of several the first counts. The hippocampi are 17 and 53 in all of them.
SURFER = (
    "aseg",
    "aparc+aseg",
    "aparc.dktatlas+aseg.deep",
    "aparc.dktatlas+aseg.mapped",
    "aparc.dktatlas+aseg",
    "aparc.a2009s+aseg",
    "aseg.auto",
    "aseg.auto_noccseg",
    "aseg.presurf",
)
SIDE = re.compile(r"(?<![A-Za-z0-9])(?:hemi-)?(lh|rh|left|right|l|r)(?![A-Za-z0-9])", re.IGNORECASE)
SURFER_FOLDERS = ("mri", "surf", "label", "stats", "tmp", "trash")  # of a SUBJECT


@dataclass(frozen=True)
class LabelSet:
    """The label maps below a folder.

    Args:
        folder: where.
        files: their paths below it, by the key that says whose they are.
        names: of the label values, from ``dseg.tsv``.
        surfer: whether all of them are FreeSurfer's or FastSurfer's by place or kind of file.
        passed_over: files below it that were not read, by kind: ``hidden`` (``._`` of macOS too),
            or the ending of a format.
    """

    folder: Path
    files: dict[str, Path]
    names: dict[int, str]
    surfer: bool = False
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> LabelSet:
        """Find the label maps.

        Where several files could be one scan's, the one whose name ends as label maps do (dseg,
        seg, labels, ..., then mask) is taken; in SUBJECT/mri FreeSurfer's aseg, else another.

        Raises:
            VoltaError: no folder, no label map, two that could be the same scan's, or hemispheres
                in two files.
        """
        folder = Path(folder)
        passed_over = _passed_over(folder)
        groups: dict[str, list[Path]] = {}
        for path in _candidates(folder):
            groups.setdefault(key_of(path, folder), []).append(path)
        if not groups:
            held = ", ".join(f"{n} {kind}" for kind, n in passed_over.items())
            raise VoltaError(
                "No label maps there" + (f"; files not read: {held}" if held else ""),
                where=folder,
                fix="Name a folder with label maps (.nii.gz or .mgz), one for each scan",
            )
        _require_whole_heads(path for paths in groups.values() for path in paths)
        files = {key: _one(key, paths, folder) for key, paths in groups.items()}
        surfer = all(is_mgh(p) or _in_mri(p) for p in files.values())
        table = folder / "dseg.tsv"
        return cls(
            folder, files, label_names(table) if table.is_file() else {}, surfer, passed_over
        )


def key_of(path: Path, folder: Path) -> str:
    """Whose a label map is: BIDS entities, else its name without endings.

    FreeSurfer's and FastSurfer's files and others of a name that says nothing (``seg.nii.gz``) are
    called after the folder that they lie in: the SUBJECT of SUBJECT/mri/aseg.mgz.
    """
    name = _whose(path, folder)
    pairs = dict(re.findall(r"([A-Za-z0-9]+)-([A-Za-z0-9]+)", name))
    if "sub" in pairs:
        return "_".join(f"{k}-{pairs[k]}" for k in ENTITIES if k in pairs)
    return name


def _whose(path: Path, folder: Path) -> str:
    if _in_mri(path):
        return path.absolute().parent.parent.name
    plain = ENDING.sub("", name_of(path))
    above = path.relative_to(folder).parent.parts
    if re.split(r"[+.]", plain.lower())[0] not in GENERIC or not above:
        return plain
    if any(part.startswith("sub-") for part in above):
        return "_".join(above)
    telling = [p for p in above if p not in (*SURFER_FOLDERS, "anat", "labels")]
    return telling[-1] if telling else plain


def _hidden(path: Path, folder: Path) -> bool:
    """Whether a file or a folder that it lies in is hidden, as the ``._NAME`` that macOS leaves."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _passed_over(folder: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        format_ = ending(path)
        if format_ and _hidden(path, folder):
            counts["hidden"] += 1
        elif format_ and format_ != ".hdr" and not is_labelmap(path):  # a pair counts once
            counts[format_] += 1
    return dict(counts)


def _require_whole_heads(paths: Iterable[Path]) -> None:
    """Make sure that no two files are the hemispheres of one scan.

    Raises:
        VoltaError: they are.
    """
    seen: dict[tuple[Path, str], tuple[str, Path]] = {}
    for path in paths:
        name = name_of(path)
        sides = SIDE.findall(name)
        if len(sides) != 1:
            continue
        side, rest = sides[0][0].lower(), (path.parent, SIDE.sub("", name))
        other, first = seen.setdefault(rest, (side, path))
        if other != side:
            raise VoltaError(
                f"The hemispheres of a scan are in two files: {first.name} and {path.name}",
                where=path.parent,
                fix="Join them into one label map for each scan, with a number for each side, as "
                "FreeSurfer's 17 (left) and 53 (right)",
            )


def _candidates(folder: Path) -> list[Path]:
    """Files that may be label maps: of each FreeSurfer SUBJECT one, no scans, nothing hidden."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and is_labelmap(p))
    found = [p for p in found if not _hidden(p, folder)]
    found = [p for p in found if name_of(p).lower().split("_")[-1] not in SCANS]
    best: dict[Path, Path] = {}
    for path in sorted((p for p in found if _in_mri(p)), key=_preference):
        best.setdefault(path.parent.parent, path)
    kept = set(best.values())
    return [
        p
        for p in found
        if (p in kept and not p.absolute().parent.parent.name.startswith("fsaverage"))
        or (p not in kept and not _of_a_subject(p, folder, best))
    ]


def _of_a_subject(path: Path, folder: Path, subjects: Iterable[Path]) -> bool:
    """Whether a file is one of FreeSurfer's many others: surfaces, steps, the scan itself."""
    if is_mgh(path) and set(path.relative_to(folder).parent.parts) & {"mri", "surf"}:
        return True
    return any(
        path.is_relative_to(s) and path.relative_to(s).parts[0] in SURFER_FOLDERS for s in subjects
    )


def _in_mri(path: Path) -> bool:
    return path.parent.name == "mri" and name_of(path).lower() in SURFER


def _preference(path: Path) -> tuple[int, Path]:
    return SURFER.index(name_of(path).lower()), path


def _one(key: str, paths: Sequence[Path], folder: Path) -> Path:
    """The label map among files of one key."""
    ranks = [_rank(p) for p in paths]
    best = [p for p, rank in zip(paths, ranks, strict=True) if rank == max(ranks)]
    if len(best) > 1:
        raise VoltaError(
            f"Two label maps for '{key}': {best[0].name} and {best[1].name}",
            where=folder,
            fix="Keep one label map for each scan in the folder",
        )
    return best[0]


def _rank(path: Path) -> int:
    ending = re.split(r"[-_.+]", name_of(path).lower())[-1]
    return 2 if ending in LABELS else 1 if ending in MASKS else 0
