"""BraTS 2023 and 2024: ``BraTS-GLI-00005-100/BraTS-GLI-00005-100-t1n.nii.gz`` and its neighbours.

Challenge, subject and timepoint stand in the name: the subject is ``BraTS-GLI-00005``, the session
100. Of the four contrasts (t1n, t1c, t2w, t2f) the native T1, t1n, is taken; ``-seg`` is its label
map. What its values mean depends on the challenge and, for PED, on the year.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import NIFTI, is_nifti, stem
from volta3d.prepare.scan import LINK_OUT, Discovery, Scan, unique, within
from volta3d.prepare.tables import person

NAME = re.compile(r"(BraTS-([A-Za-z]+(?:-RT)?)-(\d{5}))-(\d{3})-t1n", re.IGNORECASE)
DEPTH = 4
TUMOUR = {
    1: "Non-enhancing tumour core",
    2: "Surrounding FLAIR hyperintensity",
    3: "Enhancing tissue",
    4: "Resection cavity",
}
PEDIATRIC_2024 = {
    1: "Enhancing tumour",
    2: "Non-enhancing tumour",
    3: "Cystic component",
    4: "Peritumoural oedema",
}
KNOWN = {"GLI": TUMOUR, "MET": TUMOUR, "SSA": TUMOUR}


def matches(root: Path) -> bool:
    """Whether there is a native T1 named as BraTS does."""
    return root.is_dir() and any(NAME.fullmatch(stem(p)) for p in _files(root))


def discover(root: Path) -> Discovery:
    """Every native T1 with its segmentation if it has one."""
    scans, refused = list[Scan](), list[tuple[Path, Finding]]()
    for path in _files(root):
        match = NAME.fullmatch(stem(path))
        if not match:
            continue
        if not within(path, root):
            refused.append((path, LINK_OUT))
            continue
        subject, challenge, timepoint = match[1], match[2].upper(), match[4]
        label = _segmentation(path, root)
        names = label_names(challenge, path) if label else {}
        findings = list(person([]).findings)
        if label and not names:
            what = f"What the label values of BraTS {challenge} mean depends on its year"
            fix = "Keep the year in a folder's name, e.g. BraTS-PEDs2024"
            findings.append(Finding("warning", "label-names-unknown", what, fix))
        scans.append(
            Scan(
                source=path,
                scan_id=f"brats-{challenge.lower()}_{subject}_{timepoint}",
                participant_id=subject,
                session=timepoint,
                dataset=f"brats-{challenge.lower()}",
                label=label,
                label_names=names,
                findings=tuple(findings),
            )
        )
    return Discovery(unique(_of_one_meaning(scans), root), tuple(refused))


def _of_one_meaning(scans: list[Scan]) -> list[Scan]:
    """The scans, without label maps whose values mean other things than those of the first."""
    named = next((s.label_names for s in scans if s.label_names), {})
    what = "Its label values mean other things than those beside it; its label map is left out"
    fix = "To keep its labels, prepare its challenge's folder into a cohort of its own"
    other = Finding("warning", "other-label-meaning", what, fix)
    return [
        replace(s, label=None, label_names={}, findings=(*s.findings, other))
        if s.label_names and s.label_names != named
        else s
        for s in scans
    ]


def label_names(challenge: str, path: Path) -> dict[int, str]:
    """What the values of a segmentation mean, {} when it cannot be told.

    The four values of GLI and MET are those of 2024; 2023 used the first three of them, for the
    same tissues under older names. PED had the same three in 2023 and four of its own in 2024.
    """
    if challenge in KNOWN:
        return dict(KNOWN[challenge])
    if challenge == "PED":
        years = re.findall(r"20(?:23|24)", str(path.parent))
        if years:
            return dict(PEDIATRIC_2024 if years[-1] == "2024" else TUMOUR)
    return {}


def _files(root: Path) -> list[Path]:
    found = set[Path]()
    for depth in range(DEPTH):
        found |= {p for p in root.glob("*/" * depth + "*-t1n.nii*") if is_nifti(p)}
    return sorted(found)


def _segmentation(path: Path, root: Path) -> Path | None:
    base = stem(path)[: -len("t1n")] + "seg"
    found = (path.with_name(base + suffix) for suffix in NIFTI)
    return next((p for p in found if p.is_file() and within(p, root)), None)
