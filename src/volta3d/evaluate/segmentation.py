"""Label maps scored against their reference in the scan's own space, per case and structure.

Everything is computed from files: the label maps of each arm and those of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.config import parse_yaml, read_yaml
from volta3d.downstream.segmentation.structures import Structure, classes_of
from volta3d.errors import VoltaError
from volta3d.evaluate.labelsets import LabelSet, counterparts, key_of, on_grid, read_classes
from volta3d.evaluate.segmentation_summary import CASES, summarise
from volta3d.evaluate.surface import dice, surface_distances
from volta3d.files import write_json, write_text
from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.tables import read_table

METRICS = "metrics.json"
REFERENCE, PREDICTIONS = "reference", "predictions"


@dataclass(frozen=True)
class Scored:
    """Scores of label maps.

    Args:
        cases: one row a case, arm and structure.
        summary: what ``metrics.json`` holds.
        unmatched: label maps or references without a partner, or unreadable, with the reason.
    """

    cases: pd.DataFrame
    summary: dict[str, Any]
    unmatched: list[dict[str, str]]


def score_masks(
    found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float], mm3: float
) -> dict[str, Any]:
    """One structure of one case.

    Args:
        found, truth: bool [I, J, K] on one grid.
        spacing: mm along each axis.
        mm3: volume of a voxel.

    Returns:
        ``status`` (ok; missed: in the reference only; invented: in the label map only; absent:
        in neither), ``dice`` (0 when missed or invented, NaN when absent), ``hd95_mm`` and
        ``msd_mm`` (NaN unless ok), ``reference_mm3``, ``mm3``.
    """
    status = {
        (True, True): "ok",
        (True, False): "missed",
        (False, True): "invented",
        (False, False): "absent",
    }[bool(truth.any()), bool(found.any())]
    distances = surface_distances(found, truth, spacing)
    return {
        "status": status,
        "dice": dice(found, truth),
        "hd95_mm": distances.hd95,
        "msd_mm": distances.mean,
        "reference_mm3": float(truth.sum() * mm3),
        "mm3": float(found.sum() * mm3),
    }


def score_labelmaps(
    reference: LabelSet, arms: Mapping[str, LabelSet], labels: Any = "hippocampus"
) -> tuple[pd.DataFrame, list[dict[str, str]], tuple[Structure, ...]]:
    """Every arm's label maps against the reference.

    A label map on another grid is brought onto the reference's (nearest), which the column
    ``resampled`` tells.

    Returns:
        The cases, what could not be scored, and the structures.

    Raises:
        VoltaError: nothing can be paired.
        UsageError: labels whose meaning isn't clear.
    """
    structures = reference.structures(labels)
    rows: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    for arm, labelset in arms.items():
        own = counterparts(structures, labelset.structures(labels))
        for key in sorted(reference.files.keys() | labelset.files.keys()):
            if key not in labelset.files or key not in reference.files:
                side = "label map" if key not in labelset.files else "reference"
                problems.append({"arm": arm, "case": key, "what": f"It has no {side}"})
                continue
            try:
                rows += _case(arm, key, reference, labelset, structures, own)
            except VoltaError as error:
                problems.append({"arm": arm, "case": key, "what": error.paragraph()})
    if not rows:
        raise VoltaError(
            "No label map could be scored"
            + (f"; the first, {problems[0]['case']}: {problems[0]['what']}" if problems else ""),
            where=reference.folder,
            fix="Name both after their scans, e.g. sub-01_dseg.nii.gz in both folders",
        )
    return pd.DataFrame(rows), problems, structures


def _case(
    arm: str,
    key: str,
    reference: LabelSet,
    labelset: LabelSet,
    structures: Sequence[Structure],
    own: Sequence[Structure],
) -> list[dict[str, Any]]:
    truth, grid = read_classes(reference.files[key])
    found, found_grid = read_classes(labelset.files[key])
    found, resampled = on_grid(found, found_grid, grid, labelset.files[key])
    truth_classes, found_classes = classes_of(truth, structures), classes_of(found, own)
    sizes = voxel_sizes(grid.affine)
    spacing = (float(sizes[0]), float(sizes[1]), float(sizes[2]))
    return [
        {
            "arm": arm,
            "case": key,
            "structure": structure.name,
            **score_masks(found_classes == c, truth_classes == c, spacing, grid.voxel_mm3),
            "resampled": resampled,
        }
        for c, structure in enumerate(structures, start=1)
    ]


def evaluate_segmentation(run: Path | str) -> Scored:
    """Score a run of ``segment`` from its label maps alone; writes metrics.json and cases.tsv.

    Raises:
        VoltaError: no predictions or references there.
    """
    run = Path(run)
    about = _about(run)
    order = list(about.get("arms", {}))
    folders = sorted(
        (p for p in (run / PREDICTIONS).glob("*") if p.is_dir()),
        key=lambda p: (order.index(p.name) if p.name in order else len(order), p.name),
    )
    if not folders or not (run / REFERENCE).is_dir():
        raise VoltaError(
            "No predictions of a segmentation there",
            where=run,
            fix="Finish the run: the same volta3d segment command with --resume",
        )
    reference = LabelSet.open(run / REFERENCE)
    sets = {folder.name: LabelSet.open(folder) for folder in folders}
    labels = {name: (value,) for value, name in reference.names.items()}
    cases, problems, structures = score_labelmaps(reference, sets, labels)
    subjects = _subjects(run / REFERENCE)
    cases.insert(2, "subject", [subjects.get(c, c) for c in cases["case"]])
    return _finish(cases, problems, structures, run, about)


def evaluate_reference(
    reference: Path | str,
    labelmaps: Sequence[Path | str],
    out: Path | str | None = None,
    labels: Any = "hippocampus",
) -> Scored:
    """Score any folders of label maps against a reference folder by the same rule.

    Args:
        reference: the folder of reference label maps.
        labelmaps: folders, each an arm by its name.
        out: a folder for metrics.json and cases.tsv; None writes nothing.
        labels: see ``structures.resolve``; the numbers may differ between folders when a
            ``dseg.tsv`` in each names them.

    Raises:
        VoltaError, UsageError: nothing there, or nothing that can be paired.
    """
    opened = LabelSet.open(reference)
    arms = {(Path(p).name or str(p)): LabelSet.open(p) for p in labelmaps}
    cases, problems, structures = score_labelmaps(opened, arms, labels)
    cases.insert(2, "subject", [c.split("_")[0] for c in cases["case"]])
    about = {"reference": Path(reference).name}
    return _finish(cases, problems, structures, Path(out) if out else None, about)


def _finish(
    cases: pd.DataFrame,
    problems: list[dict[str, str]],
    structures: Sequence[Structure],
    out: Path | None,
    about: dict[str, Any],
) -> Scored:
    summary = {
        "kind": "segmentation",
        **about,
        "structures": [s.name for s in structures],
        **summarise(cases),
        "not_scored": problems,
    }
    if out is not None:
        write_text(out / CASES, cases.to_csv(sep="\t", index=False, lineterminator="\n"))
        write_json(out / METRICS, plain(summary))
    return Scored(cases, summary, problems)


def plain(value: Any) -> Any:
    """JSON types; NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _subjects(folder: Path) -> dict[str, str]:
    """Whose scan each case is, from the reference's ``scans.tsv`` if it is one of ours."""
    table = folder / "scans.tsv"
    rows = read_table(table) if table.is_file() else []
    ours = [r for r in rows if r.get("file") and r.get("participant_id")]
    return {key_of(folder / r["file"], folder): r["participant_id"] for r in ours}


def _about(run: Path) -> dict[str, Any]:
    if not (run / "config.yaml").is_file():
        return {}
    content = parse_yaml(read_yaml(run / "config.yaml"), where=run / "config.yaml")
    kept = ("selection", "synthetic", "split", "cohort", "arms")
    return {k: content[k] for k in kept if k in content}
