"""A plain folder: every NIfTI file in it is a scan; a table beside them is optional."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from volta3d.errors import CohortError
from volta3d.prepare.layouts.bids_names import DESCRIPTION, dataset_name, entities, is_synthetic
from volta3d.prepare.layouts.described import NO_ROW, Table
from volta3d.prepare.nifti import SUFFIXES, is_nifti, stem
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import label_names, load_json, person, sex_levels

LABEL_ENDINGS = ("_dseg", "_seg", "_label", "_labels", "_mask")
TABLES = ("participants.tsv", "participants.csv")
TABLE_ENDINGS = {".tsv", ".csv", ".xls"}
NOT_PEOPLE = {"dseg.tsv"}


def matches(root: Path) -> bool:
    """Whether there is any NIfTI file."""
    return is_nifti(root) if root.is_file() else any(_files(root))


def discover(root: Path) -> Discovery:
    """All NIfTI files below ``root`` that are not label maps, or ``root`` itself if it is a file.

    ``participants.csv`` or ``.tsv``, or else any table on top of the folder, may describe them:
    one row per file (a path relative to the folder, or a file name) or per subject (the file
    name's start, its ``sub-`` entity, or a folder it is in). A label map is named like its scan
    with ``_dseg``, ``_seg``, ``_label``, ``_labels`` or ``_mask`` at the end; ``dseg.tsv`` may
    name its values.
    """
    folder = root.parent if root.is_file() else root
    description = load_json(folder / DESCRIPTION)
    dataset, synthetic = dataset_name(folder, description), is_synthetic(description)
    names = label_names(folder / "dseg.tsv") if (folder / "dseg.tsv").is_file() else {}
    files = [root] if root.is_file() else sorted(_files(root))
    present = {f.relative_to(folder).as_posix() for f in files}
    scans, refused = [], []
    for file in files:
        if _is_label(file):
            continue
        if not within(file, folder):
            refused.append((file, LINK_OUT))
            continue
        name = file.relative_to(folder).as_posix()
        path = name[: len(name) - len(file.name)] + stem(file)
        label = _label_of(file, folder, present)
        scans.append(
            Scan(
                source=file,
                scan_id=slug(f"{dataset}_{path}"),
                participant_id=plain(_entity(file, "sub") or slug(path)),
                session=_entity(file, "ses"),
                run=entities(file).get("run", ""),
                dataset=dataset,
                label=label,
                label_names=names if label else {},
                synthetic=synthetic,
            )
        )
    return Discovery(unique(_with_tables(scans, folder), folder), tuple(refused))


def _with_tables(scans: list[Scan], folder: Path) -> list[Scan]:
    """Scans described by the first table that knows any of them."""
    for table in _tables(folder):
        told = [table.describe(s, folder, _people(s.source, folder)) for s in scans]
        if any(NO_ROW not in scan.findings for scan in told):
            return told
    unknown = person([]).findings
    return [replace(scan, findings=(*scan.findings, *unknown)) for scan in scans]


def _tables(folder: Path) -> Iterator[Table]:
    others = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in TABLE_ENDINGS]
    levels = sex_levels(folder / "participants.json")
    named = [folder / name for name in TABLES if (folder / name).is_file()]
    for path in [*named, *(p for p in others if p.name not in NOT_PEOPLE and p.is_file())]:
        try:
            yield Table(path, levels)
        except CohortError:
            if path in named:
                raise


def _people(file: Path, folder: Path) -> Iterator[str]:
    """What the subject of a file may be called: its entity, its beginnings, its folders."""
    yield entities(file).get("sub", "")
    name = stem(file)
    yield name
    for cut in reversed([m.start() for m in re.finditer(r"[^A-Za-z0-9]", name)]):
        yield name[:cut]
    yield from reversed(file.relative_to(folder).parts[:-1])


def _files(root: Path) -> list[Path]:
    return [
        p
        for p in root.rglob("*.[nN][iI][iI]*")
        if is_nifti(p)
        and (p.is_file() or p.is_symlink())
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
        and "derivatives" not in p.relative_to(root).parts
    ]


def _is_label(file: Path) -> bool:
    return stem(file).lower().endswith(LABEL_ENDINGS)


def _label_of(file: Path, folder: Path, present: set[str]) -> Path | None:
    for ending in LABEL_ENDINGS:
        for base in (stem(file), stem(file).removesuffix("_T1w")):
            for suffix in SUFFIXES:
                label = file.with_name(base + ending + suffix)
                if label.relative_to(folder).as_posix() in present and within(label, folder):
                    return label
    return None


def _entity(file: Path, key: str) -> str:
    value = entities(file).get(key, "")
    return f"{key}-{value}" if value else ""
