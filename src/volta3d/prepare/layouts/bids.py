"""BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` with label maps in ``derivatives``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.bids_labels import LABELS_OUT, label_files, matching_label, names_of
from volta3d.prepare.layouts.bids_names import DESCRIPTION, dataset_name, entities, is_synthetic
from volta3d.prepare.layouts.bids_roots import BidsRoot, bids_root
from volta3d.prepare.layouts.bids_versions import chosen, remarkable
from volta3d.prepare.people import People
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import load_json
from volta3d.prepare.walk import entries, folders, is_folder


@dataclass(frozen=True)
class DataSet:
    """What the files at the top of a BIDS data set say."""

    root: Path
    name: str
    synthetic: bool
    people: People


def matches(root: Path) -> bool:
    """Whether a folder is a BIDS data set, or a subject or session of one."""
    if not is_folder(root):
        return False
    return any(True for _ in _images(BidsRoot(root))) or (
        (root / DESCRIPTION).is_file() or bids_root(root) is not None
    )


def discover(root: Path) -> Discovery:
    """The scans of a BIDS data set, or of a part of one, with what its tables say about them."""
    data_set = bids_root(root) or BidsRoot(root)
    labels = label_files(data_set.folder, data_set.labels)
    names: dict[Path, dict[int, str]] = {}
    refused, by_subject = list[tuple[Path, Finding]](), dict[str, list[Path]]()
    for image in sorted(_images(data_set)):
        reason = remarkable(image) if within(image, root) else LINK_OUT
        if reason is not None:
            refused.append((image, reason))
        else:
            subject = image.relative_to(data_set.folder).parts[0]
            by_subject.setdefault(subject, []).append(image)
    about, scans = _data_set(data_set.folder, by_subject), []
    for subject, images in by_subject.items():
        siblings = [entities(image) for image in images]
        candidates = labels.of.get(subject.lower(), [])
        for image, noticed in chosen(images, candidates):
            named, scan = entities(image), _scan(image, about)
            label, findings = matching_label(named, siblings, candidates)
            if label is None and (labels.outside or subject.lower() in labels.lost):
                findings = (*findings, LABELS_OUT)
            scan = replace(scan, findings=(*scan.findings, *noticed, *findings))
            if label is not None:
                if label.path not in names:
                    names[label.path] = names_of(label)
                scan = replace(scan, label=label.path, label_names=names[label.path])
            scans.append(scan)
    return Discovery(unique(scans, data_set.folder), tuple(refused))


def _images(data_set: BidsRoot) -> Iterable[Path]:
    """Images called T1w or UNIT1, of the whole data set or of the part of it that was given."""
    for subject in folders(data_set.folder):
        if not subject.name.startswith("sub-"):
            continue
        sessions = [p for p in folders(subject) if p.name.startswith("ses-")]
        for anat in [subject / "anat", *(session / "anat" for session in sessions)]:
            if not (anat.is_relative_to(data_set.part) or data_set.part.is_relative_to(anat)):
                continue
            named = [p for p in entries(anat) if is_nifti(p)]
            t1 = [p for p in named if stem(p).lower().endswith("_t1w")]
            yield from t1 or [p for p in named if stem(p).lower().endswith("_unit1")]


def _data_set(root: Path, participants: Iterable[str]) -> DataSet:
    description = load_json(root / DESCRIPTION)
    return DataSet(
        root=root,
        name=dataset_name(root, description),
        synthetic=is_synthetic(description),
        people=People(root, participants),
    )


def _scan(image: Path, data_set: DataSet) -> Scan:
    participant, *between, _ = image.relative_to(data_set.root).parts
    session = between[0] if between[0].startswith("ses-") else ""
    about, findings = data_set.people.describe(participant, session)
    return Scan(
        source=image,
        scan_id=slug(f"{data_set.name}_{stem(image).rsplit('_', 1)[0]}"),
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
