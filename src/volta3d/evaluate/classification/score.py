"""Metrics of a classification or regression run, out of its table of predictions and nothing else.

Scores of several seeds are averaged; intervals are percentiles over resampled subjects, folds and
seeds as they fell. AUROC is the mean over folds, as in the paper, and DeLong's test is within
folds. Pooled AUROC ranks scans of different folds together; it has a test of its own. Where a fold
holds one class its AUROC is undefined: it is counted, never taken as .5.

Shape legend: n scans, S seeds, C classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.downstream.classification.predictions import (
    PREDICTIONS,
    read_predictions,
    score_columns,
)
from volta3d.errors import VoltaError
from volta3d.evaluate.classification.measures import measures_of
from volta3d.evaluate.metrics_file import FORMAT, write_metrics_file
from volta3d.evaluate.subgroups import of_predictions, read_groups
from volta3d.files import sha256
from volta3d.statistics.calibration import calibration_curve
from volta3d.statistics.delong import delong_in_folds, delong_test
from volta3d.statistics.holm import holm
from volta3d.statistics.intervals import bootstrap_p, interval, per_subject, resample_subjects
from volta3d.statistics.scores import (
    Predictions,
    Score,
    fold_auroc,
    mean_absolute_error,
    score_once,
)
from volta3d.statistics.weighted import Drawn
from volta3d.statistics.wilcoxon import signed_rank

RESAMPLES = 2000
DIGITS = 10  # beyond, machines differ in the order of their sums


@dataclass(frozen=True)
class Answers:
    """What one arm predicted at one fraction.

    Args:
        arm, fraction: which.
        scans, subjects: [n] their ids, and whose they are.
        seeds: one ``Predictions`` each, all on the same scans in the same order.
    """

    arm: str
    fraction: float
    scans: np.ndarray
    subjects: np.ndarray
    seeds: tuple[Predictions, ...]

    def drawn(self, measure: Score) -> Drawn:
        """A measure, averaged over seeds, as a function of weights."""
        return lambda weights: np.asarray(
            np.mean([measure(tested, weights) for tested in self.seeds], axis=0)
        )


def evaluate_predictions(
    source: Path, *, resamples: int = RESAMPLES, seed: int = 0, people: Path | None = None
) -> dict[str, Any]:
    """Metrics of a run folder, or of a prediction file; published as metrics.json beside it.

    Args:
        source: a run folder with predictions.parquet, or such a file.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        people: a table of participants, or the cohort: scores by group of people too.

    Returns:
        ``rows`` (arm, fraction, metric, score, low, high, folds, seeds ...), ``comparisons``,
        ``calibration``, and the name and hash of the file all of it comes from.

    Raises:
        VoltaError: no such file, a damaged one, one of inner validation, or arms that were tested
            on different scans.
    """
    file = source if source.is_file() else source / PREDICTIONS
    table, about = read_predictions(file)
    if about.get("part", "test") != "test":
        raise VoltaError(
            "These are the scores that epoch and threshold were chosen on, not a result",
            where=file,
            fix=f"Evaluate {PREDICTIONS}",
        )
    labels = list(about["labels"])
    answers = collect(table, labels)
    subjects = answers[0].subjects
    weights = resample_subjects(subjects, resamples, seed)
    origin = {"predictions": file.name, "predictions_sha256": sha256(file)}
    rows = [
        {**row, **origin} for answer in answers for row in measure_answer(answer, labels, weights)
    ]
    found: dict[str, Any] = {
        "format": FORMAT,
        **{k: about[k] for k in ("kind", "target", "labels", "folds", "folds_hash")},
        "positive": labels[-1] if len(labels) == 2 else None,
        "synthetic": about.get("synthetic", False),
        "arms": about.get("arms", {}),
        "scans": len(subjects),
        "subjects": len(np.unique(subjects)),
        "dropped": about.get("dropped", 0),
        **{k: about[k] for k in ("left_out", "empty_classes") if about.get(k)},
        "incomplete": about.get("incomplete", []),
        "resamples": resamples,
        **origin,
        "rows": rows,
        "comparisons": [{**c, **origin} for c in compare(answers, labels, weights)],
    }
    if labels:
        found["calibration"] = [
            {
                **{"arm": a.arm, "fraction": a.fraction, **origin},
                "curve": [asdict(b) for b in calibration_curve(_stacked(a))],
            }
            for a in answers
        ]
    if people is not None:
        full = max(a.fraction for a in answers)
        found["subgroups"] = of_predictions(
            read_groups(people),
            list(zip(answers[0].scans, subjects, strict=True)),
            subjects,
            {a.arm: a.seeds for a in answers if a.fraction == full},
            about["kind"],
        )
    plain: dict[str, Any] = _plain(found)
    write_metrics_file(file.parent, plain)
    return plain


def collect(table: pd.DataFrame, labels: Sequence[str]) -> list[Answers]:
    """The table as arrays, the same scans in the same order for every arm, fraction and seed.

    Raises:
        VoltaError: they are not the same scans with the same subjects, targets and folds, each
            once, or a target is no class.
    """
    found: list[Answers] = []
    reference: list[tuple[object, ...]] | None = None
    for (arm, fraction), own in table.groupby(["arm", "fraction"], sort=False):
        seeds = []
        for _, one in own.groupby("seed"):
            ordered = one.sort_values("scan_id", kind="stable")
            asked = ordered[["scan_id", "subject", "target", "fold"]]
            asked_of = [tuple(row) for row in asked.itertuples(index=False)]
            reference = reference or asked_of
            if asked_of != reference or ordered["scan_id"].duplicated().any():
                raise VoltaError(
                    "Arms, fractions or seeds were not tested on the same scans, each once, with "
                    "the same subjects, targets and folds",
                    where=f"{arm}, fraction {fraction:g}",
                    fix="Run volta3d classify with --resume to complete the grid",
                )
            seeds.append(_tested(ordered, labels))
            scans, subjects = (
                ordered[name].to_numpy(object).astype(str) for name in ("scan_id", "subject")
            )
        share = float(own["fraction"].iloc[0])
        found.append(Answers(str(arm), share, scans, subjects, tuple(seeds)))
    return found


def _tested(rows: pd.DataFrame, labels: Sequence[str]) -> Predictions:
    scores = rows[score_columns(labels)].to_numpy(np.float64)
    if labels:
        place = {label: i for i, label in enumerate(labels)}
        unknown = set(rows["target"]) - set(place)
        if unknown:
            raise VoltaError(
                f"A target is none of the classes: {min(map(str, unknown))}",
                fix="Restore the table of predictions",
            )
        values = np.array([place[t] for t in rows["target"]], np.float64)
        if len(labels) == 2:
            scores = np.concatenate([1 - scores, scores], axis=1)
    else:
        values = rows["target"].to_numpy(np.float64)
    return Predictions(
        values=values,
        scores=scores,
        folds=rows["fold"].to_numpy(np.int64),
        thresholds=rows["threshold"].to_numpy(np.float64),
        baseline=rows["baseline"].to_numpy(np.float64),
    )


def measure_answer(
    answer: Answers, labels: Sequence[str], weights: np.ndarray
) -> list[dict[str, Any]]:
    """One row per measure: the score, its interval, and how it varies over folds and seeds."""
    rows = []
    numbers = np.unique(answer.seeds[0].folds)
    for name, measure in measures_of(len(labels)).items():
        score, low, high = interval(answer.drawn(measure), weights)
        folds = [_in_fold(answer, measure, int(number)) for number in numbers]
        defined = [f for f in folds if not math.isnan(f)]
        rows.append(
            {
                "arm": answer.arm,
                "fraction": answer.fraction,
                "metric": name,
                "score": score,
                "low": low,
                "high": high,
                "folds": folds,
                "fold_mean": float(np.mean(defined)) if defined else math.nan,
                "fold_sd": float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan,
                "folds_undefined": len(folds) - len(defined),
                "seeds": [score_once(measure, t) for t in answer.seeds],
                "scans": len(answer.subjects),
                "subjects": len(np.unique(answer.subjects)),
            }
        )
    return rows


def _in_fold(answer: Answers, measure: Score, number: int) -> float:
    """A measure within one fold, averaged over seeds; NaN where undefined."""
    return float(np.mean([score_once(measure, t.fold(number)) for t in answer.seeds]))


def compare(
    answers: Sequence[Answers], labels: Sequence[str], weights: np.ndarray
) -> list[dict[str, Any]]:
    """Every pair of arms at every fraction; Holm's correction over the pairs of one fraction."""
    found = []
    for fraction in dict.fromkeys(a.fraction for a in answers):
        family = [a for a in answers if a.fraction == fraction]
        rows = [_pair(a, b, labels, weights) for a, b in itertools.combinations(family, 2)]
        for row, adjusted in zip(rows, holm([r["p"] for r in rows]), strict=True):
            found.append({**row, "p_holm": adjusted})
    return found


def _pair(a: Answers, b: Answers, labels: Sequence[str], weights: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"fraction": a.fraction, "first": a.arm, "second": b.arm}
    if not labels:
        measure: Score = mean_absolute_error
        errors = [
            per_subject(x.subjects, np.mean([_error(t) for t in x.seeds], axis=0)) for x in (a, b)
        ]
        row |= {"metric": "MAE", "test": "Wilcoxon signed rank on subjects' absolute errors"}
        row["p"] = signed_rank(errors[0], errors[1])
    elif len(labels) == 2:
        measure = fold_auroc
        row |= _ranked(a, b)
    else:
        measure = fold_auroc
        row |= {"metric": "AUROC", "test": "bootstrap over subjects"}
    first, second = a.drawn(measure), b.drawn(measure)

    def difference(w: np.ndarray) -> np.ndarray:
        return first(w) - second(w)

    score, low, high = interval(difference, weights)
    row.setdefault("p", bootstrap_p(difference, weights))
    return {**row, "difference": score, "low": low, "high": high}


def _ranked(a: Answers, b: Answers) -> dict[str, Any]:
    """DeLong's tests: within folds, and of scans of all folds ranked together."""
    one = a.seeds[0]
    positive = one.values > 0
    first, second = (np.stack([t.scores[:, 1] for t in x.seeds]) for x in (a, b))
    difference, z, p = delong_test(positive, first, second, a.subjects)
    several = len(np.unique(one.folds)) > 1
    found: dict[str, Any] = {}
    if several:
        found["pooled"] = {"difference": difference, "z": z, "p": p}
        _, z, p = delong_in_folds(positive, first, second, one.folds, a.subjects)
    if math.isnan(p):  # a fold with one subject of a class has no variance of its own
        return found | {"metric": "AUROC", "test": "bootstrap over subjects"}
    repeated = len(np.unique(a.subjects)) < len(a.subjects)
    test = ("DeLong within folds" if several else "DeLong") + (
        ", scans clustered by subject" if repeated else ""
    )
    return found | {"metric": "AUROC", "test": test, "z": z, "p": p}


def _error(tested: Predictions) -> np.ndarray:
    error: np.ndarray = np.abs(tested.values - tested.scores[:, 0])
    return error


def _stacked(answer: Answers) -> Predictions:
    """All seeds below each other, for the calibration curve."""
    names = Predictions.__dataclass_fields__
    return Predictions(*(np.concatenate([getattr(t, n) for t in answer.seeds]) for n in names))


def _plain(value: Any) -> Any:
    """JSON types; NaN and infinity as null; rounded to what all machines agree on."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        # a p of 1e-12 is small, not nothing
        return float(f"{value:.3g}") if 0 < abs(value) < 1e-6 else round(value, DIGITS)
    return value
