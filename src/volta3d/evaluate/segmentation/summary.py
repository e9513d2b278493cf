"""Cases to a summary: means with intervals over subjects, and paired tests between arms.

A distance that is undefined because a structure was missed is left out of the mean and counted; so
is a case that an arm has no label map for. Repetitions of an arm are averaged case by case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.errors import VoltaError
from volta3d.evaluate.metrics_file import ALL_STRUCTURES
from volta3d.evaluate.segmentation.paired_tests import RESAMPLES, paired_tests, structure_tests
from volta3d.statistics.intervals import interval, resample_subjects
from volta3d.statistics.weighted import Drawn, mean_of, pearson

CASES = "cases.tsv"
ALL = ALL_STRUCTURES
SCORES = ("dice", "hd95_mm", "msd_mm")
VOLUMES = ("reference_mm3", "mm3", "error_mm3", "absolute_error_percent")
MEANS = ("dice", "hd95_mm", "msd_mm", "error_mm3", "absolute_error_percent")
FEWEST_VOLUMES = 3  # for a correlation
NAMES = ("arm", "case", "subject", "structure")  # columns that are text, whatever they look like


def read_cases(path: Path) -> pd.DataFrame:
    """The table ``cases.tsv``; one of an older version without ``seed`` has seed 0 only.

    Raises:
        VoltaError: it cannot be read.
    """
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=dict.fromkeys(NAMES, str),
            keep_default_na=False,  # an arm may be called NA
            na_values={name: [""] for name in (*SCORES, *VOLUMES)},
        )
    except (OSError, ValueError) as error:
        fix = "volta3d evaluate the run again"
        raise VoltaError(f"The table cannot be read: {error}", where=path, fix=fix) from error
    if "seed" not in table:
        table["seed"] = 0
    return table


def summarise(
    cases: pd.DataFrame, seed: int = 0, expected: Collection[str] | None = None
) -> dict[str, Any]:
    """Everything ``metrics.json`` says of the cases.

    Args:
        cases: ``arm``, ``case``, ``subject``, ``structure``, ``status``, ``dice``, ``hd95_mm``,
            ``msd_mm``, ``reference_mm3``, ``mm3``, and ``seed`` where arms were repeated.
        seed: of the bootstrap.
        expected: the cases that every arm should have; by default those that any has.

    Returns:
        ``results``: arm to structure to metrics and counts (``missed``: cases in which it was
        missed, by one repetition at least; ``unscored``: expected cases that the arm was not scored
        on); ``repetitions`` of each arm; ``tests`` of pairs of arms on the mean
        of structures (Holm over all) and ``structure_tests`` on each (Holm within each metric).
    """
    full = cases.copy()
    full["error_mm3"] = full["mm3"] - full["reference_mm3"]
    full["absolute_error_percent"] = _percent(full["error_mm3"], full["reference_mm3"])
    if "seed" not in full:
        full["seed"] = 0
    by_structure = _averaged(full, ["arm", "case", "subject", "structure"])
    by_case = _averaged(_over_structures(full), ["arm", "case", "subject", "structure"])
    wanted = set(full["case"]) if expected is None else set(expected)
    arms: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(full["arm"]):
        tables = [by_structure[by_structure["arm"] == arm], by_case[by_case["arm"] == arm]]
        own = pd.concat(tables, ignore_index=True)
        unscored = len(wanted - set(own["case"]))
        arms[arm] = {
            name: _metrics(own[own["structure"] == name], unscored, seed)
            for name in dict.fromkeys(own["structure"])
        }
    return {
        "interval": "95 %, bootstrap over subjects",
        "resamples": RESAMPLES,
        "repetitions": {a: int(full[full["arm"] == a]["seed"].nunique()) for a in arms},
        "results": arms,
        "tests": paired_tests(by_case, seed),
        "structure_tests": structure_tests(by_structure, seed),
    }


def _percent(error: pd.Series, reference: pd.Series) -> pd.Series:
    """The absolute error in percent of the reference; NaN where that is empty."""
    known: pd.Series = 100 * (error.abs() / reference.where(reference > 0))
    return known


def _over_structures(cases: pd.DataFrame) -> pd.DataFrame:
    """One row a case and repetition, its volumes the means of its structures'."""
    found = _averaged(cases, ["arm", "seed", "case", "subject"])
    found["structure"] = ALL
    found["error_mm3"] = found["mm3"] - found["reference_mm3"]
    found["absolute_error_percent"] = _percent(found["error_mm3"], found["reference_mm3"])
    return found


def _averaged(cases: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row for each value of the keys, rows that differ in other ways averaged.

    What is absent in both has no scores and is passed over; a distance has a mean only if all the
    others have one. The status is the worst.
    """
    if not cases.duplicated(keys).any() and "structure" in keys:
        return cases
    rows = []
    for values, own in cases.groupby(keys, sort=False):
        present = own[own["status"] != "absent"]
        row: dict[str, Any] = dict(zip(keys, values, strict=True))
        row["status"] = _worst(present["status"])
        for name in SCORES:
            row[name] = present[name].mean(skipna=False) if len(present) else np.nan
        rows.append(row | {name: own[name].mean() for name in VOLUMES})
    return pd.DataFrame(rows)


def _worst(status: pd.Series) -> str:
    found = set(status)
    return next((s for s in ("missed", "invented", "ok") if s in found), "absent")


def _metrics(cases: pd.DataFrame, unscored: int, seed: int) -> dict[str, Any]:
    weights = resample_subjects(cases["subject"].to_numpy(), RESAMPLES, seed)
    counts = cases["status"].value_counts()
    found: dict[str, Any] = {
        "cases": len(cases),
        "unscored": unscored,
        "subjects": int(cases["subject"].nunique()),
        **{s: int(counts.get(s, 0)) for s in ("missed", "invented", "absent")},
    }
    for name in MEANS:
        values = cases[name].to_numpy(np.float64)
        found[name] = _named(interval(mean_of(values), weights))
        found[name]["median"] = float(np.nanmedian(values)) if np.isfinite(values).any() else None
        found[name]["n"] = int(np.isfinite(values).sum())
    present = cases[cases["status"] != "absent"]
    own = weights[:, (cases["status"] != "absent").to_numpy()]
    truth, predicted = present["reference_mm3"].to_numpy(), present["mm3"].to_numpy()
    found["volume_r"] = _named(interval(_correlation_of(truth, predicted), own))
    return found


def _named(values: tuple[float, float, float]) -> dict[str, Any]:
    return dict(zip(("mean", "low", "high"), values, strict=True))


def _correlation_of(x: np.ndarray, y: np.ndarray) -> Drawn:
    """Pearson's r of volumes; NaN for fewer than three."""
    if len(x) < FEWEST_VOLUMES:
        return lambda weights: np.full(len(weights), np.nan)
    return lambda weights: pearson(x, y, weights)


def ranked_cases(cases: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    """Cases from best to worst by the mean Dice over structures and these arms.

    Only cases that all of them were scored on and that have a structure in reference or label map.
    """
    own = cases[cases["arm"].isin(list(arms)) & (cases["status"] != "absent")]
    scored = cases[cases["arm"].isin(list(arms))].groupby("case")["arm"].nunique()
    own = own[own["case"].isin(scored.index[scored == len(set(arms))])]
    mean = own.groupby("case")["dice"].mean()
    ordered = mean.sort_values(ascending=False, kind="stable")
    return [str(c) for c in ordered.index]
