"""Label maps scored against their reference in the scan's own space, per case and structure.

Everything is computed from files: the label maps of each arm and those of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.config import parse_yaml, read_yaml
from volta3d.downstream.segmentation.structures import Structure, classes_of
from volta3d.errors import VoltaError
from volta3d.evaluate.metrics_file import segmentation_rows, write_metrics_file
from volta3d.evaluate.segmentation.arms import Key, arm_names, arms_of_run
from volta3d.evaluate.segmentation.case_matching import partners
from volta3d.evaluate.segmentation.label_mapping import Structures, map_labels
from volta3d.evaluate.segmentation.labelmaps import on_grid, read_classes
from volta3d.evaluate.segmentation.labelsets import LabelSet
from volta3d.evaluate.segmentation.overlap_checks import (
    LABELS_FIX,
    RUN_FIX,
    without_overlap,
    without_scores,
)
from volta3d.evaluate.segmentation.subjects import scan_ids_of, subjects_of
from volta3d.evaluate.segmentation.summary import CASES, summarise
from volta3d.evaluate.segmentation.surface import dice, surface_distances
from volta3d.evaluate.subgroups import of_cases, read_groups
from volta3d.files import write_text
from volta3d.prepare.checks import voxel_sizes

REFERENCE = "reference"
Problems = list[dict[str, Any]]


@dataclass(frozen=True)
class Scored:
    """Scores of label maps.

    Args:
        cases: one row a case, arm, repetition (``seed``) and structure.
        summary: what ``metrics.json`` holds.
        unmatched: label maps or references without a partner, or unreadable, with the reason.
    """

    cases: pd.DataFrame
    summary: dict[str, Any]
    unmatched: Problems


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
    reference: LabelSet, arms: Mapping[Key, LabelSet], labels: Any = "hippocampus"
) -> tuple[pd.DataFrame, Problems, dict[str, Structures]]:
    """Every arm's label maps against the reference.

    A label map on another grid is brought onto the reference's (nearest), which the column
    ``resampled`` tells.

    Args:
        reference: the label maps that count as true.
        arms: (arm, repetition) to its label maps.
        labels: see ``label_mapping.map_labels``.

    Returns:
        The cases, what could not be scored, and the structures: the reference's by the name "",
        the arms' own by theirs.

    Raises:
        VoltaError: nothing can be paired.
        UsageError: it isn't clear which labels mean which structure.
    """
    structures, own = map_labels(reference, arms, labels)
    rows: list[dict[str, Any]] = []
    problems: Problems = []
    unusable: VoltaError | None = None
    for (arm, seed), labelset in arms.items():
        which = {"arm": arm, "seed": seed}
        pairs = partners(reference.files, labelset.files)
        for key, what in _alone(reference.files, labelset.files, pairs):
            problems.append({**which, "case": key, "what": what})
        for key, theirs in sorted(pairs.items()):
            files = reference.files[key], labelset.files[theirs]
            try:
                scores = _case(*files, structures, own[arm, seed])
            except VoltaError as error:
                problems.append({**which, "case": key, "what": error.paragraph()})
                unusable = unusable or error
            else:
                rows += [{"arm": arm, "seed": seed, "case": key, **row} for row in scores]
    if not rows and unusable is not None:
        raise VoltaError(
            f"No label map could be scored, the first for this: {unusable.what}",
            where=unusable.where,
            fix=unusable.fix,
        )
    if not rows:
        raise VoltaError(
            "No label map could be scored"
            + (f"; the first, {problems[0]['case']}: {problems[0]['what']}" if problems else ""),
            where=reference.folder,
            fix="Name both after their scans, e.g. sub-01_dseg.nii.gz in both folders",
        )
    by_arm = {"": structures} | {arm: theirs for (arm, _), theirs in own.items()}
    return pd.DataFrame(rows), problems, by_arm


def _alone(
    reference: Collection[str], other: Collection[str], pairs: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Keys without a partner, and what they lack."""
    paired = set(pairs.values())
    found = [(k, "It has no label map") for k in reference if k not in pairs]
    return sorted(found + [(k, "It has no reference") for k in other if k not in paired])


def _case(
    reference: Path, labelmap: Path, structures: Sequence[Structure], own: Sequence[Structure]
) -> list[dict[str, Any]]:
    truth, grid = read_classes(reference)
    found, found_grid = read_classes(labelmap)
    found, resampled = on_grid(found, found_grid, grid, labelmap)
    truth_classes, found_classes = classes_of(truth, structures), classes_of(found, own)
    sizes = voxel_sizes(grid.affine)
    spacing = (float(sizes[0]), float(sizes[1]), float(sizes[2]))
    return [
        {
            "structure": structure.name,
            **score_masks(found_classes == c, truth_classes == c, spacing, grid.voxel_mm3),
            "resampled": resampled,
        }
        for c, structure in enumerate(structures, start=1)
    ]


def evaluate_segmentation(run: Path | str, people: Path | None = None) -> Scored:
    """Score a run of ``segment`` from its label maps alone; writes metrics.json and cases.tsv.

    Args:
        run: the run folder.
        people: a table of participants, or the cohort: scores by group of people too.

    Raises:
        VoltaError: no predictions or references there.
    """
    run = Path(run)
    config = read_config(run)
    folders = arms_of_run(run, config)
    if not folders or not (run / REFERENCE).is_dir():
        raise VoltaError(
            "No predictions of a segmentation there",
            where=run,
            fix="Finish the run: the same volta3d segment command with --resume",
        )
    reference = LabelSet.open(run / REFERENCE)
    sets = {key: LabelSet.open(folder) for key, folder in folders.items()}
    labels = {name: (value,) for value, name in reference.names.items()}
    kept = ("selection", "synthetic", "split", "cohort", "arms")
    about = {k: config[k] for k in kept if k in config}
    return _finish(reference, sets, labels, run, about, RUN_FIX, people)


def evaluate_reference(
    reference: Path | str,
    labelmaps: Sequence[Path | str],
    out: Path | str | None = None,
    labels: Any = "hippocampus",
) -> Scored:
    """Score any folders of label maps against a reference folder by the same rule.

    Args:
        reference: the folder of reference label maps.
        labelmaps: folders, each an arm by its name, or by what its path differs in.
        out: a folder for metrics.json and cases.tsv; None writes nothing.
        labels: see ``label_mapping.map_labels``; hippocampi, and names of a ``dseg.tsv``, may have
            other numbers in every folder.

    Raises:
        VoltaError, UsageError: nothing there, or nothing that can be paired.
    """
    opened = LabelSet.open(reference)
    arms = {(name, 0): LabelSet.open(path) for name, path in arm_names(labelmaps).items()}
    about = {"reference": Path(reference).name}
    return _finish(opened, arms, labels, Path(out) if out else None, about, LABELS_FIX)


def _finish(
    reference: LabelSet,
    arms: Mapping[Key, LabelSet],
    labels: Any,
    out: Path | None,
    about: dict[str, Any],
    fix: str,
    people: Path | None = None,
) -> Scored:
    """Score, summarise and publish."""
    cases, problems, structures = score_labelmaps(reference, arms, labels)
    whose = subjects_of(reference.files, reference)
    cases.insert(3, "subject", [whose[c] for c in cases["case"]])
    silent = without_scores(list(dict.fromkeys(arm for arm, _ in arms)), cases, fix)
    by_structure = summarise(cases, expected=reference.files)
    summary = {
        "kind": "segmentation",
        **about,
        "structures": [s.name for s in structures[""]],
        **segmentation_rows(by_structure),
        **by_structure,
        "findings": silent + without_overlap(cases, structures, fix),
        "not_scored": problems,
        "passed_over": {
            name: dict(labelset.passed_over)
            for name, labelset in (("reference", reference), *_by_name(arms))
            if labelset.passed_over
        },
    }
    if people is not None:
        ids = scan_ids_of(reference)
        known = {case: {case, whose[case], ids.get(case, case)} for case in whose}
        summary["subgroups"] = of_cases(read_groups(people), known, cases)
    if out is not None:
        write_text(out / CASES, cases.to_csv(sep="\t", index=False, lineterminator="\n"))
        write_metrics_file(out, plain(summary))
    return Scored(cases, summary, problems)


def _by_name(arms: Mapping[Key, LabelSet]) -> Iterator[tuple[str, LabelSet]]:
    return ((arm, labelset) for (arm, _), labelset in arms.items())


def plain(value: Any) -> Any:
    """JSON types; NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def read_config(run: Path) -> dict[str, Any]:
    """What the run's config.yaml holds; {} without one.

    Raises:
        ConfigError: it cannot be read.
    """
    file = run / "config.yaml"
    return parse_yaml(read_yaml(file), where=file) if file.is_file() else {}
