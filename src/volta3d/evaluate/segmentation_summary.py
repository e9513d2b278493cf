"""Cases to a summary: means with intervals over subjects, and paired tests between arms.

A distance that is undefined because a structure was missed is left out of the mean and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from volta3d.evaluate.statistics import holm, interval, resample_subjects, signed_rank

CASES = "cases.tsv"
RESAMPLES = 2000
ALL = "mean of structures"
MEANS = ("dice", "hd95_mm", "msd_mm", "error_mm3", "absolute_error_percent")


def summarise(cases: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Everything ``metrics.json`` says of the cases.

    Args:
        cases: ``arm``, ``case``, ``subject``, ``structure``, ``status``, ``dice``, ``hd95_mm``,
            ``msd_mm``, ``reference_mm3``, ``mm3``.
        seed: of the bootstrap.

    Returns:
        ``arms``: arm to structure to metric; ``tests``: pairs of arms; ``levels``.
    """
    full = cases.copy()
    full["error_mm3"] = full["mm3"] - full["reference_mm3"]
    known = full["reference_mm3"] > 0
    percent = 100 * (full["error_mm3"].abs() / full["reference_mm3"].where(known))
    full["absolute_error_percent"] = percent
    by_case = _by_case(full)
    arms: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys(full["arm"]):
        own = full[full["arm"] == arm]
        arms[arm] = {
            name: _metrics(own[own["structure"] == name], seed)
            for name in dict.fromkeys(own["structure"])
        }
        arms[arm][ALL] = _metrics(by_case[by_case["arm"] == arm], seed)
    return {
        "interval": "95 %, bootstrap over subjects",
        "resamples": RESAMPLES,
        "results": arms,
        "tests": tests(by_case, seed),
    }


def tests(by_case: pd.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """Every two arms on each case's mean Dice and HD95: mean paired difference with its bootstrap
    interval over subjects, median, and Wilcoxon's test; Holm over all.

    Only cases that both arms were scored on count; scans of one subject and repetitions with
    other seeds are averaged first.
    """
    rows: list[dict[str, Any]] = []
    arms = list(dict.fromkeys(by_case["arm"]))
    for metric in ("dice", "hd95_mm"):
        table = by_case.pivot_table(index="subject", columns="arm", values=metric, dropna=False)
        for first, second in combinations(arms, 2):
            if first not in table or second not in table:
                continue
            one, other = table[first].to_numpy(), table[second].to_numpy()
            known = np.isfinite(one - other)
            difference = (one - other)[known]
            mean = low = high = np.nan
            if len(difference):
                weights = resample_subjects(table.index.to_numpy()[known], RESAMPLES, seed)
                mean, low, high = interval(_mean_of(difference), weights)
            rows.append(
                {
                    "metric": metric,
                    "first": first,
                    "second": second,
                    "n": len(difference),
                    "difference": mean,
                    "low": low,
                    "high": high,
                    "median_difference": float(np.median(difference))
                    if len(difference)
                    else np.nan,
                    "p": signed_rank(one, other),
                }
            )
    for row, adjusted in zip(rows, holm([r["p"] for r in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows


def _by_case(cases: pd.DataFrame) -> pd.DataFrame:
    """One row a case: means over its structures; a distance only if all have one."""
    rows = []
    for (arm, case, subject), own in cases.groupby(["arm", "case", "subject"], sort=False):
        present = own[own["status"] != "absent"]
        row: dict[str, Any] = {"arm": arm, "case": case, "subject": subject, "structure": ALL}
        row["status"] = _worst(present["status"])
        for name in ("dice", "hd95_mm", "msd_mm"):
            row[name] = present[name].mean(skipna=False) if len(present) else np.nan
        for name in ("reference_mm3", "mm3"):
            row[name] = own[name].mean()
        row["error_mm3"] = row["mm3"] - row["reference_mm3"]
        known = row["reference_mm3"] > 0
        percent = 100 * abs(row["error_mm3"]) / row["reference_mm3"] if known else np.nan
        row["absolute_error_percent"] = percent
        rows.append(row)
    return pd.DataFrame(rows)


def _worst(status: pd.Series) -> str:
    found = set(status)
    return next((s for s in ("missed", "invented", "ok") if s in found), "absent")


def _metrics(cases: pd.DataFrame, seed: int) -> dict[str, Any]:
    weights = resample_subjects(cases["subject"].to_numpy(), RESAMPLES, seed)
    counts = cases["status"].value_counts()
    found: dict[str, Any] = {
        "cases": len(cases),
        "subjects": int(cases["subject"].nunique()),
        **{s: int(counts.get(s, 0)) for s in ("missed", "invented", "absent")},
    }
    for name in MEANS:
        values = cases[name].to_numpy(np.float64)
        found[name] = _named(interval(_mean_of(values), weights))
        found[name]["median"] = float(np.nanmedian(values)) if np.isfinite(values).any() else None
        found[name]["n"] = int(np.isfinite(values).sum())
    present = cases[cases["status"] != "absent"]
    own = weights[:, (cases["status"] != "absent").to_numpy()]
    truth, told = present["reference_mm3"].to_numpy(), present["mm3"].to_numpy()
    found["volume_r"] = _named(interval(_correlation_of(truth, told), own))
    return found


def _named(values: tuple[float, float, float]) -> dict[str, Any]:
    return dict(zip(("mean", "low", "high"), values, strict=True))


def _mean_of(values: np.ndarray) -> Any:
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)

    def drawn(weights: np.ndarray) -> np.ndarray:
        count = weights @ known.astype(np.float64)
        mean: np.ndarray = np.where(
            count > 0, (weights @ filled) / np.where(count > 0, count, 1), np.nan
        )
        return mean

    return drawn


def _correlation_of(x: np.ndarray, y: np.ndarray) -> Any:
    """Pearson's r of volumes, for many weights at once; NaN where one of them is constant."""
    x = x - x.mean() if len(x) else x
    y = y - y.mean() if len(y) else y

    def drawn(weights: np.ndarray) -> np.ndarray:
        if len(x) < 3:
            return np.full(len(weights), np.nan)
        n = np.maximum(weights.sum(1), 1e-9)
        mean_x, mean_y = weights @ x / n, weights @ y / n
        cross = weights @ (x * y) / n - mean_x * mean_y
        var_x, var_y = weights @ x**2 / n - mean_x**2, weights @ y**2 / n - mean_y**2
        defined = (var_x > 1e-9 * (x**2).mean()) & (var_y > 1e-9 * (y**2).mean())
        root = np.sqrt(np.where(defined, var_x * var_y, 1.0))
        r: np.ndarray = np.where(defined, cross / root, np.nan)
        return r

    return drawn


def ranked_cases(cases: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    """Cases from best to worst by the mean Dice over structures and these arms."""
    own = cases[cases["arm"].isin(list(arms)) & (cases["status"] != "absent")]
    mean = own.groupby("case")["dice"].mean()
    ordered = mean.sort_values(ascending=False, kind="stable")
    return [str(c) for c in ordered.index]
