"""The synthetic cohort as files: a BIDS raw data set, with the truth as a BIDS derivative."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import volta3d
from volta3d.phantom import effects
from volta3d.phantom.anatomy import LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS
from volta3d.phantom.head import VOLUMES
from volta3d.phantom.scanner import SCANNERS, Scanner
from volta3d.phantom.subject import ATROPHY, CONTROL, Subject

BIDS_VERSION = "1.10.0"
MARK = "synthetic.json"  # lies beside the synthetic archives
TRUTH = Path("derivatives") / "truth"
LABELS = {RIGHT_HIPPOCAMPUS: "Right-Hippocampus", LEFT_HIPPOCAMPUS: "Left-Hippocampus"}
NOTICE = """\
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
Institute, McGill University. Permission to use, copy, modify, and distribute this software and its
documentation for any purpose and without fee is hereby granted, provided that the above copyright
notice appear in all copies. The authors and McGill University make no representations about the
suitability of this software for any purpose. It is provided "as is" without express or implied
warranty. The authors are not responsible for any data loss, equipment damage, property loss, or
injury to subjects or patients resulting from the use or misuse of this software package."""
LICENSE = (
    "Synthetic images made from the MNI ICBM152 2009 template: any purpose, without fee, with the "
    "notice that README repeats. " + NOTICE.partition(" Permission")[0].replace("\n", " ")
)

README = """\
# Synthetic brains

THIS DATA SET IS SYNTHETIC. No person was scanned, and no label in it is a diagnosis.

Every image is the MNI ICBM152 template, deformed by a smooth random warp, given tissue signals,
a skull, scalp, face and neck of simple geometry, a bias field and Rician noise by one of two
invented scanners. It serves to try out and to test software. It says nothing about people.

- `sub-*/anat/*_T1w.nii.gz`: the synthetic scans; siteA and siteB differ in spacing, axes, contrast,
  bias field and noise.
- `derivatives/truth/sub-*/anat/*_desc-truth_dseg.nii.gz`: the true hippocampi on the same voxels,
  47 right and 48 left, carried through the same warp as the image.
- `participants.tsv`: sex, age, site, the invented diagnosis, and the true volumes.

## Effects, by construction

The sizes also stand in `dataset_description.json` under `SyntheticEffects`.

{effects}

## Terms

The images are made from the MNI ICBM152 2009 template that nilearn bundles; hippocampi and
ventricles are drawn into it by volta3d. The template's terms, which hold for these images too:

{notice}
"""


def effect_statements() -> dict[str, str]:
    """Each effect in words, by the column that causes it."""
    return {
        "sex": (
            f"linear head size: M 1.00, F {effects.HEAD_FEMALE:.2f} on average, "
            f"standard deviation {effects.HEAD_DEVIATION:.2f}"
        ),
        "age": (
            f"years past {effects.AGES[0]:.0f}, each: lateral ventricles "
            f"+{effects.VENTRICLE_PER_YEAR:.3f} of log volume (residual standard deviation "
            f"{effects.VENTRICLE_DEVIATION:.2f}); hippocampus -{effects.HIPPOCAMPUS_PER_YEAR:.4f} "
            f"of log volume; grey matter -{100 * effects.GREY_PER_YEAR:.2f} % of its volume "
            f"(residual standard deviation {100 * effects.GREY_DEVIATION:.1f} %), lost where it "
            f"borders on outer fluid, so that sulci widen; grey-white signal difference "
            f"-{100 * effects.CONTRAST_PER_YEAR:.1f} %"
        ),
        "diagnosis": (
            f"{ATROPHY} against {CONTROL}: hippocampus volume x "
            f"{effects.HIPPOCAMPUS_ATROPHY:.2f} (residual standard deviation of log volume "
            f"{effects.HIPPOCAMPUS_DEVIATION:.2f}, and {effects.SIDE_DEVIATION:.2f} per side), "
            f"lateral ventricle volume x {effects.VENTRICLE_ATROPHY:.2f}, grey matter "
            f"-{100 * effects.GREY_ATROPHY:.0f} % of its volume, lost in the sulci"
        ),
        "site": "; ".join(_scanner_statement(s) for s in SCANNERS.values()),
    }


def _scanner_statement(scanner: Scanner) -> str:
    spacing = " x ".join(f"{s:.1f}" for s in scanner.spacing)
    return (
        f"{scanner.name}: axes {scanner.axes}, {spacing} times the base spacing, grey matter "
        f"{100 * scanner.grey:.0f} % and fluid {100 * scanner.fluid:.0f} % of white matter, "
        f"noise {100 * scanner.noise:.1f} %, bias field {100 * scanner.bias:.0f} %"
    )


def write_subject(
    root: Path,
    subject: Subject,
    scanner: Scanner,
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
) -> None:
    """One subject's synthetic scan, its sidecar and its true labels."""
    folder = root / subject.name / "anat"
    truth = root / TRUTH / subject.name / "anat"
    for path in (folder, truth):
        path.mkdir(parents=True)
    _save(image, affine, folder / f"{subject.name}_T1w.nii.gz")
    _save(labels, affine, truth / f"{subject.name}_desc-truth_dseg.nii.gz")
    sidecar = {
        "Modality": "MR",
        "Synthetic": True,
        "Manufacturer": "synthetic",
        "ManufacturersModelName": f"volta3d phantom scanner {scanner.name}",
        "MagneticFieldStrength": scanner.tesla,
    }
    _write_json(folder / f"{subject.name}_T1w.json", sidecar)


def write_tables(
    root: Path, subjects: list[Subject], volumes: list[dict[str, float]], arguments: dict[str, Any]
) -> None:
    """participants, descriptions, README and the label table.

    Args:
        volumes: true volumes in mm³ of each subject.
        arguments: what the data set was generated with.
    """
    lines = ["\t".join(["participant_id", *_columns()])]
    for subject, found in zip(subjects, volumes, strict=True):
        values = [
            subject.name,
            f"{subject.age:.1f}",
            subject.sex,
            subject.site,
            subject.diagnosis,
            f"{subject.head_scale:.4f}",
            *(f"{found[name]:.1f}" for name in VOLUMES),
        ]
        lines.append("\t".join(values))
    _write(root / "participants.tsv", "\n".join(lines) + "\n")
    _write_json(root / "participants.json", _columns())
    statements = effect_statements()
    listed = "\n".join(f"- {name}: {text}" for name, text in statements.items())
    _write(root / "README", README.format(effects=listed, notice=NOTICE))
    generator = {"Name": "volta3d.phantom", "Version": volta3d.__version__}
    description = {
        "Name": "volta3d phantom: synthetic brains",
        "BIDSVersion": BIDS_VERSION,
        "License": LICENSE,
        "Synthetic": True,
    }
    extra = {
        "DatasetType": "raw",
        "GeneratedBy": [{**generator, "Description": f"phantom generated with {arguments}"}],
        "SyntheticEffects": statements,
    }
    _write_json(root / "dataset_description.json", {**description, **extra})
    derived = {
        "Name": "volta3d phantom: true labels of synthetic brains",
        "DatasetType": "derivative",
        "GeneratedBy": [generator],
    }
    _write_json(root / TRUTH / "dataset_description.json", {**description, **derived})
    table = ["index\tname", *(f"{index}\t{name}" for index, name in LABELS.items())]
    _write(root / TRUTH / "dseg.tsv", "\n".join(table) + "\n")


def _columns() -> dict[str, dict[str, Any]]:
    """What each column of participants.tsv means, as BIDS asks for it."""
    statements = effect_statements()
    columns: dict[str, dict[str, Any]] = {
        "age": {
            "Description": f"Invented age of a synthetic subject. Effect: {statements['age']}",
            "Units": "year",
        },
        "sex": {
            "Description": f"Invented sex of a synthetic subject. Effect: {statements['sex']}",
            "Levels": {"M": "male", "F": "female"},
        },
        "site": {
            "Description": "Invented scanner",
            "Levels": {s.name: _scanner_statement(s) for s in SCANNERS.values()},
        },
        "diagnosis": {
            "Description": (
                f"Invented condition, not a disease. Effect: {statements['diagnosis']}"
            ),
            "Levels": {CONTROL: "no atrophy added", ATROPHY: "synthetic atrophy added"},
        },
        "head_scale": {"Description": "True linear head size relative to the template"},
    }
    for name in VOLUMES:
        words = name.replace("_", " ")
        columns[f"true_{name}_mm3"] = {
            "Description": f"True volume, {words}, summed from probabilities",
            "Units": "mm^3",
        }
    return columns


def _save(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"synthetic, volta3d phantom"
    nib.save(image, path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
