"""Clinica's CAPS after ``t1-linear``: T1 scans in MNI space, bias corrected and cropped.

``subjects/sub-*/ses-*/t1_linear/*_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz``. Where
the uncropped image lies beside the cropped one, the cropped one is taken. CAPS has no table of its
own: a participants.tsv and ``sub-*_sessions.tsv`` are read where the BIDS folder's were put along.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.bids_names import DESCRIPTION, dataset_name, entities, is_synthetic
from volta3d.prepare.people import People
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, plain, slug, unique, within
from volta3d.prepare.tables import load_json
from volta3d.prepare.walk import entries

SPACE = "MNI152NLin2009cSym"
LINEAR = Finding("info", "resampled-before", "Registered to MNI space and resampled by Clinica")


def matches(root: Path) -> bool:
    """Whether there is a subject with a t1_linear folder."""
    return root.is_dir() and next(_folders(root), None) is not None


def discover(root: Path) -> Discovery:
    """One scan per t1_linear image, with what tables put along say about its subject."""
    description = load_json(root / DESCRIPTION)
    dataset = dataset_name(root, description)
    people = People(root, {folder.parts[-3] for folder in _folders(root)})
    scans, refused = list[Scan](), list[tuple[Path, Finding]]()
    for folder in _folders(root):
        for image, findings in _chosen(folder):
            if not within(image, root):
                refused.append((image, LINK_OUT))
                continue
            participant, session = folder.parts[-3], folder.parts[-2]
            about, noticed = people.describe(participant, session, "subjects")
            findings = [*findings, *noticed]
            kept = [p for p in stem(image).split("_") if not p.startswith(("space", "desc", "res"))]
            scans.append(
                Scan(
                    source=image,
                    scan_id=slug(f"{dataset}_{'_'.join(kept).removesuffix('_T1w')}"),
                    participant_id=plain(participant),
                    session=plain(session),
                    run=entities(image).get("run", ""),
                    dataset=dataset,
                    site=about.site,
                    sex=about.sex,
                    age=about.age,
                    diagnosis=about.diagnosis,
                    synthetic=is_synthetic(description),
                    findings=(*findings, LINEAR, *about.findings),
                )
            )
    return Discovery(unique(scans, root), tuple(refused))


def _folders(root: Path) -> Iterator[Path]:
    for folder in sorted(root.glob("subjects/sub-*/ses-*/t1_linear")):
        if folder.is_dir():
            yield folder


def _chosen(folder: Path) -> Iterator[tuple[Path, list[Finding]]]:
    """The cropped image of each acquisition, else the uncropped one."""
    images = [p for p in entries(folder) if is_nifti(p) and stem(p).endswith("_T1w")]
    images = [p for p in images if entities(p).get("space") == SPACE]
    acquisitions: dict[tuple[str, str], list[Path]] = {}
    for image in images:
        named = entities(image)
        acquisitions.setdefault((named.get("acq", ""), named.get("run", "")), []).append(image)
    for versions in acquisitions.values():
        versions.sort(key=lambda p: entities(p).get("desc", "").lower() != "crop")
        findings = []
        if len(versions) > 1:
            what = f"{len(versions)} versions of one image; took {stem(versions[0])}"
            findings.append(Finding("info", "several-versions", what))
        yield versions[0], findings
