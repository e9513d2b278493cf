"""Label maps as a BIDS derivative: a folder of ``*_dseg.nii.gz`` with names and volumes beside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from volta3d import __version__
from volta3d.cohort.participants import write_table
from volta3d.downstream.segmentation.native import Grid
from volta3d.downstream.segmentation.structures import Structure, class_counts, values_of
from volta3d.files import atomic_file, write_json
from volta3d.grid.predicted import read_rows, unreadable

SCANS, VOLUMES, NAMES = "scans.tsv", "volumes.tsv", "dseg.tsv"
VOLUME_COLUMNS = ("scan_id", "structure", "mm3", "file")


def bids_names(people: Sequence[tuple[str, str]], desc: str = "volta3d") -> list[str]:
    """Paths of label maps below a derivative's folder, one for each (participant, session).

    Where a person has several scans in a session they are numbered as runs.
    """
    found, seen = [], dict[tuple[str, str], int]()
    counts = {key: [_key(p) for p in people].count(key) for key in {_key(p) for p in people}}
    for person in people:
        subject, session = key = _key(person)
        seen[key] = seen.get(key, 0) + 1
        parts = [f"sub-{subject}"] + ([f"ses-{session}"] if session else [])
        run = [f"run-{seen[key]}"] if counts[key] > 1 else []
        name = "_".join([*parts, *run, f"desc-{desc}", "dseg.nii.gz"])
        found.append("/".join([*parts, "anat", name]))
    return found


def _key(person: tuple[str, str]) -> tuple[str, str]:
    subject, session = (re.sub(r"[^A-Za-z0-9]+", "", p) for p in (_bare(person[0]), person[1]))
    return subject or "unnamed", session.removeprefix("ses")


def _bare(participant: str) -> str:
    return participant.removeprefix("sub-")


def write_labelmap(
    path: Path, classes: np.ndarray, native: Grid, structures: Sequence[Structure]
) -> None:
    """Publish one label map on the scan's own grid, with the structures' own label values.

    Raises:
        VoltaError: it cannot be written.
    """
    values = values_of(classes, structures)
    small = max(s.values[0] for s in structures) <= 255
    image = nib.Nifti1Image(values.astype(np.uint8 if small else np.uint16), native.affine)
    image.set_sform(native.affine, code=1)
    image.set_qform(native.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["intent_code"] = 1002  # NIFTI_INTENT_LABEL
    with atomic_file(path) as temporary:
        # nibabel compresses by the name's ending
        raw = temporary.with_name(temporary.name + ".nii.gz")
        try:
            nib.save(image, raw)
            raw.replace(temporary)
        finally:
            raw.unlink(missing_ok=True)


def volumes_of(
    classes: np.ndarray, native: Grid, structures: Sequence[Structure]
) -> dict[str, float]:
    """The volume of each structure in mm³."""
    counts = class_counts(classes, structures)
    return {s.name: float(counts[i + 1] * native.voxel_mm3) for i, s in enumerate(structures)}


def describe(
    folder: Path,
    structures: Sequence[Structure],
    rows: Iterable[dict[str, Any]],
    *,
    name: str,
    settings: dict[str, Any] | None = None,
) -> None:
    """Write what makes a folder of label maps a BIDS derivative, and the table of volumes.

    Args:
        folder: of the derivative.
        structures: for ``dseg.tsv``.
        rows: for each map ``scan_id``, ``participant_id``, ``session``, ``file`` and more columns;
            ``volumes`` (mm³ by structure) goes to ``volumes.tsv``, one row a structure.
        name: of the derivative.
        settings: how it was made, for ``dataset_description.json``.
    """
    made = {"Name": "volta3d", "Version": __version__}
    write_json(
        folder / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{**made, "Description": settings} if settings else made],
        },
    )
    names = [{"index": s.values[0], "name": s.name} for s in structures]
    write_table(folder / NAMES, pd.DataFrame(names, columns=["index", "name"]))
    listed = list(rows)
    scans = [{k: v for k, v in row.items() if k != "volumes"} for row in listed]
    write_table(folder / SCANS, pd.DataFrame(scans))
    volumes = [
        (row["scan_id"], structure, round(mm3, 3), row["file"])
        for row in listed
        for structure, mm3 in row.get("volumes", {}).items()
    ]
    write_table(folder / VOLUMES, pd.DataFrame(volumes, columns=list(VOLUME_COLUMNS)))


def described(folder: Path) -> list[dict[str, Any]]:
    """The rows that ``describe`` was given for the label maps that are still there, as texts.

    Raises:
        VoltaError: a table is there and cannot be read.
    """
    scans = read_rows(folder / SCANS, ("scan_id", "file"))
    files = {row["scan_id"]: row["file"] for row in scans}
    found: dict[str, dict[str, str]] = {}
    for row in read_rows(folder / VOLUMES, ("scan_id", "structure", "mm3")):
        # tables of earlier releases have no column file
        file = row.get("file") or files.get(row["scan_id"], "")
        found.setdefault(file, {})[row["structure"]] = row["mm3"]
    rows = [row for row in scans if row["file"] and (folder / row["file"]).is_file()]
    try:
        return [
            {**row, "volumes": {k: float(v) for k, v in found.get(row["file"], {}).items()}}
            for row in rows
        ]
    except ValueError as error:
        raise unreadable(folder / VOLUMES, error) from error
