"""BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` with label maps in ``derivatives``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.layouts.bids_labels import (
    ACQUISITION,
    NATIVE_SPACES,
    label_files,
    matching_label,
    names_of,
)
from volta3d.prepare.layouts.bids_names import DESCRIPTION, dataset_name, entities, is_synthetic
from volta3d.prepare.nifti import is_nifti, stem
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import Row, bare, by_id, load_json, person, read_table, sex_levels

PROCESSED = ("space", "desc", "res", "den", "label", "split")  # entities of derivatives


@dataclass(frozen=True)
class DataSet:
    """What the files at the top of a BIDS data set say."""

    root: Path
    name: str
    synthetic: bool
    rows: Mapping[str, Row]
    repeated: frozenset[str]
    levels: Mapping[str, str]


def matches(root: Path) -> bool:
    """Whether a folder looks like BIDS."""
    return root.is_dir() and ((root / DESCRIPTION).is_file() or any(_images(root)))


def discover(root: Path) -> Discovery:
    """The scans of a BIDS data set with what its tables say about them."""
    about, labels = _data_set(root), label_files(root)
    names: dict[Path, dict[int, str]] = {}
    refused, by_subject = [], dict[str, list[Path]]()
    for image in sorted(_images(root)):
        if within(image, root):
            by_subject.setdefault(image.relative_to(root).parts[0], []).append(image)
        else:
            refused.append((image, LINK_OUT))
    scans = []
    for subject, images in by_subject.items():
        siblings = [entities(image) for image in images]
        for image, noticed in _originals(images):
            named, scan = entities(image), _scan(image, about)
            scan = replace(scan, findings=scan.findings + noticed)
            label, findings = matching_label(named, siblings, labels.get(subject.lower(), []))
            scan = replace(scan, findings=scan.findings + findings)
            if label is not None:
                if label.path not in names:
                    names[label.path] = names_of(label)
                scan = replace(scan, label=label.path, label_names=names[label.path])
            scans.append(scan)
    return Discovery(unique(scans, root), tuple(refused))


def _images(root: Path) -> Iterable[Path]:
    for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*"):
        for path in root.glob(pattern):
            if is_nifti(path) and stem(path).lower().endswith("_t1w"):
                yield path


def _originals(images: Iterable[Path]) -> Iterable[tuple[Path, tuple[Finding, ...]]]:
    """One image per acquisition of a person: of several versions, the least processed."""
    acquisitions: dict[tuple[str, ...], list[Path]] = {}
    for image in images:
        named = entities(image)
        key = tuple(named.get(k, "") for k in ACQUISITION)
        acquisitions.setdefault(key, []).append(image)
    for versions in acquisitions.values():
        versions.sort(key=lambda p: (sum(k in entities(p) for k in PROCESSED), p.name))
        findings = []
        if len(versions) > 1:
            what = f"{len(versions)} versions of one image; took {stem(versions[0])}"
            findings.append(Finding("info", "several-versions", what))
        space = entities(versions[0]).get("space", "T1w")
        if space.lower() not in NATIVE_SPACES:
            what = f"Resampled to another space before ({plain(space)})"
            findings.append(Finding("info", "resampled-before", what))
        yield versions[0], tuple(findings)


def _data_set(root: Path) -> DataSet:
    description = load_json(root / DESCRIPTION)
    table = root / "participants.tsv"
    rows, repeated = by_id(read_table(table) if table.is_file() else [], "participant_id", "sub-")
    return DataSet(
        root=root,
        name=dataset_name(root, description),
        synthetic=is_synthetic(description),
        rows=rows,
        repeated=frozenset(repeated),
        levels=sex_levels(root / "participants.json"),
    )


def _scan(image: Path, data_set: DataSet) -> Scan:
    participant, *between, _ = image.relative_to(data_set.root).parts
    session = between[0] if between[0].startswith("ses-") else ""
    key, findings = bare(participant, "sub-"), []
    found = _session_rows(data_set.root / participant, session)
    if key in data_set.rows:
        found.append(data_set.rows[key])
    else:
        findings.append(Finding("warning", "no-participant-row", "Not in participants.tsv"))
    if key in data_set.repeated:
        what = "More than one row of participants.tsv; took the first"
        findings.append(Finding("warning", "repeated-participant", what, "Keep one row each"))
    about = person(found, data_set.levels)
    return Scan(
        source=image,
        scan_id=slug(f"{data_set.name}_{stem(image)[: -len('_T1w')]}"),
        participant_id=plain(participant),
        session=plain(session),
        run=entities(image).get("run", ""),
        dataset=data_set.name,
        site=about.site,
        sex=about.sex,
        age=about.age,
        diagnosis=about.diagnosis,
        synthetic=data_set.synthetic,
        findings=(*findings, *about.findings),
    )


def _session_rows(subject: Path, session: str) -> list[Row]:
    table = subject / f"{subject.name}_sessions.tsv"
    if not session or not table.is_file():
        return []
    rows, _ = by_id(read_table(table), "session_id", "ses-")
    return [rows[key] for key in [bare(session, "ses-")] if key in rows]
