"""A plain folder: every NIfTI file in it is a scan; a table beside them is optional."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts.bids_names import DESCRIPTION, dataset_name, entities, is_synthetic
from volta3d.prepare.nifti import SUFFIXES, is_nifti, stem
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import Row, bare, label_names, load_json, person, read_table, sex_levels

LABEL_ENDINGS = ("_dseg", "_seg", "_label", "_labels", "_mask")
TABLES = ("participants.tsv", "participants.csv")


def matches(root: Path) -> bool:
    """Whether there is any NIfTI file."""
    return is_nifti(root) if root.is_file() else any(_files(root))


def discover(root: Path) -> Discovery:
    """All NIfTI files below ``root`` that are not label maps, or ``root`` itself if it is a file.

    ``participants.csv`` or ``.tsv`` may describe them, one row per ``file`` (a path relative to
    the folder, or a file name) or per ``participant_id`` (the file name's start, or its
    ``sub-`` entity). A label map is named like its scan with ``_dseg``, ``_seg``, ``_label``,
    ``_labels`` or ``_mask`` at the end; ``dseg.tsv`` may name its values.
    """
    folder = root.parent if root.is_file() else root
    description = load_json(folder / DESCRIPTION)
    dataset, synthetic = dataset_name(folder, description), is_synthetic(description)
    rows, levels = _rows(folder), sex_levels(folder / "participants.json")
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
        row, findings = _row_of(name, file, rows)
        about = person([row] if row else [], levels)
        findings += about.findings if rows else ()
        scans.append(
            Scan(
                source=file,
                scan_id=slug(f"{dataset}_{path}"),
                participant_id=plain(row.get("participant_id", "") or _participant(file, path)),
                session=plain(row.get("session", "")) or _entity(file, "ses"),
                run=entities(file).get("run", ""),
                dataset=dataset,
                site=about.site,
                sex=about.sex,
                age=about.age,
                diagnosis=about.diagnosis,
                label=_label_of(file, folder, present),
                label_names=names,
                synthetic=synthetic,
                findings=findings,
            )
        )
    return Discovery(unique(scans, folder), tuple(refused))


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


def _rows(folder: Path) -> dict[str, Row]:
    """Rows by file and by participant, both in lower case."""
    table = next((folder / t for t in TABLES if (folder / t).is_file()), None)
    rows: dict[str, Row] = {}
    for row in read_table(table) if table else []:
        for key in (row.get("file", "").lower(), bare(row.get("participant_id", ""), "sub-")):
            if key:
                rows.setdefault(key, row)
    return rows


def _row_of(name: str, file: Path, rows: Mapping[str, Row]) -> tuple[Row, tuple[Finding, ...]]:
    keys = [name.lower(), file.name.lower(), stem(file).lower()]
    if "sub" in entities(file):
        keys.append(entities(file)["sub"].lower())
    keys += [part.lower() for part in Path(name).parts[:-1]]
    for key in keys:
        if key in rows:
            return rows[key], ()
    if not rows:
        return {}, ()
    return {}, (Finding("warning", "no-participant-row", "Not in the participants table"),)


def _participant(file: Path, path: str) -> str:
    return _entity(file, "sub") or slug(path)


def _entity(file: Path, key: str) -> str:
    value = entities(file).get(key, "")
    return f"{key}-{value}" if value else ""
