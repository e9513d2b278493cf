"""Metrics of a classification or regression as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volta3d.evaluate.text_table import aligned, number, p_text

SHOWN = {
    "classification": (
        "AUROC",
        "AUROC pooled",
        "sensitivity at .5",
        "specificity at .5",
        "sensitivity at Youden",
        "specificity at Youden",
        "balanced accuracy at Youden",
        "balanced accuracy",
        "Brier",
        "ECE",
    ),
    "regression": ("MAE", "R2", "r"),
}
BY_FOLD = (
    "sensitivity at .5",
    "specificity at .5",
    "sensitivity at Youden",
    "specificity at Youden",
)
SHORT = {
    "AUROC pooled": "pooled",
    "sensitivity at .5": "sens .5",
    "specificity at .5": "spec .5",
    "sensitivity at Youden": "sens J",
    "specificity at Youden": "spec J",
    "balanced accuracy at Youden": "bal J",
    "balanced accuracy": "bal",
}


def render(metrics: Mapping[str, Any]) -> str:
    """The main table of a run, then the comparisons, then where the numbers come from."""
    rows: Sequence[Mapping[str, Any]] = metrics["rows"]
    present = [m for m in SHOWN[metrics["kind"]] if any(r["metric"] == m for r in rows)]
    main = present[0]
    head = ["arm", "fraction", main, "95 % interval", "sd of folds"]
    lines = [[*head, *(SHORT.get(m, m) for m in present[1:])]]
    for arm, fraction in dict.fromkeys((r["arm"], r["fraction"]) for r in rows):
        own = {r["metric"]: r for r in rows if (r["arm"], r["fraction"]) == (arm, fraction)}
        first = own[main]
        lines.append(
            [
                arm,
                f"{fraction:g}",
                number(first["score"]),
                f"{number(first['low'])} to {number(first['high'])}",
                number(first["fold_sd"]),
                *(number(own[m]["score"]) for m in present[1:]),
            ]
        )
    folds = metrics["folds"]
    way = f"{folds} folds" if folds > 1 else "models fitted elsewhere"
    what = f"{metrics['target']}, {metrics['subjects']} subjects, {way}"
    if metrics.get("positive"):
        what += f", positive: {metrics['positive']}"
    text = [what + (", SYNTHETIC scans" if metrics.get("synthetic") else ""), *aligned(lines)]
    text += fold_means(metrics)
    undefined = sum(r["folds_undefined"] for r in rows if r["metric"] == main)
    if undefined:
        text.append(f"{main} is undefined in {undefined} folds: they lack a class")
    if metrics.get("incomplete"):
        text.append(f"Not finished, so not shown: {'; '.join(metrics['incomplete'])}")
    if metrics.get("empty_classes"):
        text.append(empty_text(metrics["empty_classes"]))
    for arm, declared in metrics.get("arms", {}).items():
        if said := fitted_text(arm, declared, metrics["scans"]):
            text.append(said)
        saw = declared.get("pretraining_saw", "none")
        if "without labels" in saw:
            text.append(f"{arm}: pretraining saw {saw}")
    text += _comparisons(metrics["comparisons"])
    text.append(f"From {metrics['predictions']}, sha256 {metrics['predictions_sha256'][:12]}...")
    return "\n".join(text)


def fold_means(metrics: Mapping[str, Any]) -> list[str]:
    """Sensitivity and specificity as mean ± sd over folds, as papers print them.

    Nothing where there is one fold, or in metrics of before, which lack the means.
    """
    rows = [r for r in metrics["rows"] if r["metric"] in BY_FOLD and "fold_mean" in r]
    if not rows or metrics["folds"] < 2:
        return []
    lines = [["arm", "fraction", *(SHORT[m] for m in BY_FOLD)]]
    for arm, fraction in dict.fromkeys((r["arm"], r["fraction"]) for r in rows):
        own = {r["metric"]: r for r in rows if (r["arm"], r["fraction"]) == (arm, fraction)}
        spread = [f"{number(own[m]['fold_mean'])} ± {number(own[m]['fold_sd'])}" for m in BY_FOLD]
        lines.append([arm, f"{fraction:g}", *spread])
    head = "Mean ± sd over folds (above: of the scans of all folds together)"
    return ["", head, *aligned(lines), ""]


def fitted_text(arm: str, declared: Mapping[str, Any], scans: int) -> str:
    """That a model was fitted to scans that it is scored on, or that this is not known; else empty.

    Args:
        arm: its name.
        declared: what metrics.json says of it.
        scans: how many were scored.
    """
    if "trained_on_these" not in declared:  # cross-validated: there is nothing to know
        return ""
    fitted = declared["trained_on_these"]
    if fitted:
        which = "scans of this cohort" if fitted is True else f"{fitted} of {scans} scans"
        return f"{arm}: NOT A TEST: {which} were fitted"
    return f"It is not known whether {arm} was fitted to these scans" if fitted is None else ""


def empty_text(classes: Sequence[str]) -> str:
    """That classes of the models have no scan."""
    return f"No scored scan is {' or '.join(classes)}: AUROC is undefined"


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    if not comparisons:
        return []
    pooled = all("pooled" in c for c in comparisons)
    lines = [["fraction", "difference", "", "95 % interval", "p", "Holm"]]
    lines[0] += ["pooled", "p"] if pooled else []
    lines += [
        [
            f"{c['fraction']:g}",
            f"{c['first']} - {c['second']}",
            number(c["difference"], signed=True),
            f"{number(c['low'], signed=True)} to {number(c['high'], signed=True)}",
            p_text(c["p"]),
            p_text(c["p_holm"]),
            *(_pooled(c["pooled"]) if pooled else []),
        ]
        for c in comparisons
    ]
    return ["", f"{comparisons[0]['metric']}, {tests_of(comparisons)}", *aligned(lines)]


def tests_of(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """The tests that were used, each named once."""
    return " or ".join(dict.fromkeys(str(c["test"]) for c in comparisons))


def _pooled(found: Mapping[str, Any]) -> list[str]:
    return [number(found["difference"], signed=True), p_text(found["p"])]
