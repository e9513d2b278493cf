"""A plain folder: every volume in it is a scan unless its name says otherwise; a table may help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from volta3d.errors import CohortError
from volta3d.prepare.file_names import not_t1, remarks_on_name
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_image, stem
from volta3d.prepare.layouts.bids_names import DESCRIPTION, dataset_name, entities, is_synthetic
from volta3d.prepare.layouts.described import NO_ROW, Table
from volta3d.prepare.layouts.folder_labels import ALONE, Labels, sorted_out
from volta3d.prepare.people import fits_nobody
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import label_names, load_json, person, read_columns
from volta3d.prepare.walk import entries, files_below
from volta3d.prepare.workbook import WORKBOOKS

TABLES = ("participants.tsv", "participants.csv")
TABLE_ENDINGS = {".tsv", ".csv", *WORKBOOKS}
NOT_PEOPLE = {"dseg.tsv"}


def matches(root: Path) -> bool:
    """Whether there is any volume in a format that is read."""
    return is_image(root) if root.is_file() else any(_files(root))


def discover(root: Path) -> Discovery:
    """All volumes below ``root`` that may be T1w scans, or ``root`` itself if it is a file.

    ``participants.csv`` or ``.tsv``, or else any table on top of the folder, may describe them:
    one row per file (a path relative to the folder, or a file name) or per subject (the file
    name's start, its ``sub-`` entity, or a folder it is in). A label map is named like its scan
    with ``_dseg``, ``_seg``, ``_label``, ``_labels`` or ``_mask`` at the end, or lies in a folder
    ``labels`` beside that of the scans; ``dseg.tsv`` may name its values. What a name calls a label
    map, or another image than a T1w scan, is refused.
    """
    folder = root.parent if root.is_file() else root
    description = load_json(folder / DESCRIPTION)
    dataset, synthetic = dataset_name(folder, description), is_synthetic(description)
    names = label_names(folder / "dseg.tsv") if (folder / "dseg.tsv").is_file() else {}
    files, maps = sorted_out([root] if root.is_file() else _files(root), folder)
    beside = [p for p in entries(folder) if is_image(p) and p != root] if root.is_file() else []
    labels = Labels([*maps, *beside], folder)
    scans, refused = list[Scan](), list[tuple[Path, Finding]]()
    for file in files:
        place = file.relative_to(folder)
        reason = not_t1(place) if within(file, folder) else LINK_OUT
        if reason is not None:
            refused.append((file, reason))
            continue
        path = (place.parent / stem(file)).as_posix()
        label = labels.of(file)
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
                findings=tuple(remarks_on_name(place)),
            )
        )
    used = {scan.label for scan in scans}
    refused += [(p, ALONE) for p in maps if p not in used]
    return Discovery(unique(_with_tables(scans, folder), folder), tuple(refused))


def _with_tables(scans: list[Scan], folder: Path) -> list[Scan]:
    """Scans described by the first table that knows any of them."""
    unknown = person([]).findings
    for table in _tables(folder):
        about = [table.describe(s, folder, _people(s.source, folder)) for s in scans]
        if any(NO_ROW not in scan.findings for scan in about):
            return about
        if scans and table.person:
            ours = scans[0].participant_id
            unknown = (*unknown, fits_nobody(table.path.name, table.person, table.first, ours))
    return [replace(scan, findings=(*scan.findings, *unknown)) for scan in scans]


def _tables(folder: Path) -> Iterator[Table]:
    others = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in TABLE_ENDINGS]
    levels = read_columns(folder / "participants.json")
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
    found = files_below(root, skip=lambda name: name == "derivatives")
    return sorted(path for path in found if is_image(path))


def _entity(file: Path, key: str) -> str:
    value = entities(file).get(key, "")
    return f"{key}-{value}" if value else ""
