"""Tables I to III: arms by metric with intervals, and the tests between arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volta3d.evaluate.classification.summary_lines import SHOWN, tests_of
from volta3d.report.figures_folds import interval_words
from volta3d.report.style import MINUS, UNKNOWN, number
from volta3d.report.tables import Table
from volta3d.report.task_run import TaskRun

DISTANCES = (("dice", "Dice", 3), ("hd95_mm", "HD95, mm", 2), ("msd_mm", "Mean distance, mm", 2))


def score_table(run: TaskRun) -> Table:
    """Arms of a classification or regression at the whole training part."""
    metrics = [m for m in SHOWN[run.kind] if any(r["metric"] == m for r in run.rows)]
    rows = []
    for arm in run.arms:
        found = [run.row(arm, m) for m in metrics]
        sd = number((found[0] or {}).get("fold_sd")) if found else UNKNOWN
        cells = [interval_words(row) if row else UNKNOWN for row in found]
        rows.append((arm, _declared(run, arm), *cells[:1], sd, *cells[1:]))
    head = ("Arm", "What it is", *metrics[:1], "sd of folds", *metrics[1:])
    folds, people = run.metrics.get("folds"), run.metrics.get("subjects")
    positive = run.metrics.get("positive")
    way = "models fitted elsewhere" if run.elsewhere else f"{number(folds)} folds by participant"
    caption = (
        f"{run.target}: {way}, {number(people)} participants"
        + (f", positive: {positive}" if positive else "")
        + ". 95 % intervals over participants in brackets."
    )
    return Table(caption, head, rows, numeric=frozenset(range(2, len(head))))


def _declared(run: TaskRun, arm: str) -> str:
    """The network and how it was tuned, in a few words."""
    declared = (run.metrics.get("arms") or run.config.get("arms") or {}).get(arm)
    if not isinstance(declared, Mapping):
        return UNKNOWN
    kind, tune = str(declared.get("kind", "")), str(declared.get("tune", ""))
    start = "pretrained" if declared.get("encoder_sha256") else "untrained"
    if kind == "volume":
        return "head and brain volume alone"
    if kind == "linear":
        return f"{start}, frozen, linear model"
    return ", ".join(part for part in (kind, start, tune) if part)


def fraction_table(run: TaskRun) -> Table | None:
    """The main metric at every fraction; None for one."""
    fractions = sorted({float(r["fraction"]) for r in run.rows})
    if len(fractions) < 2:
        return None
    metric = main_metric(run)
    rows = []
    for arm in run.arms:
        found = [run.row(arm, metric, f) for f in fractions]
        rows.append((arm, *(interval_words(row) if row else UNKNOWN for row in found)))
    head = ("Arm", *(f"{100 * f:g} %" for f in fractions))
    caption = f"{metric} by share of the training part; the test folds stay the same."
    return Table(caption, head, rows, numeric=frozenset(range(1, len(head))), folded=True)


def main_metric(run: TaskRun) -> str:
    """The first of the metrics that are shown; fixed beforehand."""
    return next((m for m in SHOWN[run.kind] if any(r["metric"] == m for r in run.rows)), "")


def pair_table(run: TaskRun) -> Table | None:
    """Every pair of arms at every fraction with its test; None for one arm."""
    pairs = run.metrics.get("comparisons", [])
    if not pairs:
        return None
    pooled = all("pooled" in p for p in pairs)
    rows = [
        (
            f"{100 * float(p['fraction']):g} %",
            f"{p['first']} {MINUS} {p['second']}",
            interval_words({"score": p["difference"], "low": p["low"], "high": p["high"]}, 3),
            number(p.get("p")),
            number(p.get("p_holm")),
            *((number(p["pooled"]["difference"]), number(p["pooled"]["p"])) if pooled else ()),
        )
        for p in pairs
    ]
    caption = (
        f"Differences in {pairs[0]['metric']}; {tests_of(pairs)}; Holm over each fraction's pairs."
    )
    head = ["Training part", "Arms", "Difference [95 %]", "p", "p, Holm"]
    if pooled:
        caption += " Pooled: scans of all folds ranked together, and DeLong's test on that."
        head += ["pooled", "p, pooled"]
    numeric = frozenset(range(2, len(head)))
    return Table(caption, tuple(head), rows, numeric=numeric, folded=len(rows) > 6)


def segmentation_table(run: TaskRun) -> Table:
    """Arm by structure: overlap and distances, with what was missed counted."""
    rows = []
    results = {arm: run.metrics["results"][arm] for arm in run.arms}
    absent = any(m.get("absent") for found in results.values() for m in found.values())
    for arm, structures in results.items():
        for structure, found in structures.items():
            cells = [_mean(found.get(name), digits) for name, _, digits in DISTANCES]
            counts = [number(found.get(k, 0)) for k in ("missed", "invented", "unscored", "cases")]
            if absent:
                counts.insert(2, number(found.get("absent", 0)))
                counts.append(number((found.get("dice") or {}).get("n")))
            volume = found.get("absolute_error_percent") or {}
            rows.append((arm, structure, *cells, number(volume.get("mean")), *counts))
    names = tuple(title for _, title, _ in DISTANCES)
    head = ("Arm", "Structure", *names, "Volume error, %", "Missed", "Invented")
    gaps = (["Absent"], ["With Dice"]) if absent else ([], [])
    head = (*head, *gaps[0], "No map", "Cases", *gaps[1])
    strong = frozenset(i for i, row in enumerate(rows) if row[1].startswith("mean of"))
    caption = (
        "Mean over cases in their own space, 95 % intervals over participants in brackets. A "
        "missed structure has no distance: it is counted and left out of the mean distance, as is "
        "a case without a label map."
    )
    if absent:
        caption += (
            " A structure that is absent, in the reference and in the label map, has no Dice either"
            " (the last column counts the cases that have one); one that is invented has 0."
        )
    return Table(caption, head, rows, numeric=frozenset(range(2, len(head))), strong=strong)


def _mean(found: Any, digits: int) -> str:
    if not isinstance(found, Mapping):
        return UNKNOWN
    row = {"score": found.get("mean"), "low": found.get("low"), "high": found.get("high")}
    return interval_words(row, digits)


def test_table(run: TaskRun, *, each: bool = False) -> Table | None:
    """Wilcoxon's tests between the arms of a segmentation; None without any.

    Args:
        run: of ``segment``.
        each: on each structure by itself instead of their mean.
    """
    tests = run.metrics.get("structure_tests" if each else "tests", [])
    rows = [
        (
            *([str(t["structure"])] if each else []),
            str(t["metric"]).replace("_mm", ", mm"),
            f"{t['first']} {MINUS} {t['second']}",
            _mean({"mean": t.get("difference"), "low": t.get("low"), "high": t.get("high")}, 3),
            number(t.get("median_difference")),
            number(t.get("n")),
            number(t.get("p")),
            number(t.get("p_holm")),
        )
        for t in tests
    ]
    columns = ("Metric", "Arms", "Mean difference", "Median", "Participants", "p", "p, Holm")
    caption = (
        "Paired differences by participant on cases that both arms have, 95 % bootstrap intervals "
        "in brackets; Wilcoxon's signed rank test, Holm over all"
    )
    caption += " structures and pairs of a metric." if each else "."
    head = ("Structure", *columns) if each else columns
    numeric = frozenset(range(len(head) - 5, len(head)))
    return Table(caption, head, rows, numeric=numeric) if rows else None


def refused_table(run: TaskRun) -> Table | None:
    """What could not be scored, each with the reason."""
    problems = run.metrics.get("not_scored") or []
    rows = [tuple(str(p.get(k, UNKNOWN)) for k in ("arm", "case", "what")) for p in problems]
    caption = f"{run.name}: label maps that could not be scored."
    return Table(caption, ("Arm", "Case", "What"), rows) if rows else None


def origin_table(run: TaskRun) -> Table:
    """What the numbers of a downstream run trace to."""
    cohort = run.config.get("cohort")
    hashes = {
        "software": run.config.get("software"),
        "cohort": cohort.get("hash") if isinstance(cohort, Mapping) else None,
        "folds": run.config.get("folds_hash"),
        f"{run.metrics.get('predictions', 'predictions')}, SHA-256": run.metrics.get(
            "predictions_sha256"
        ),
    }
    rows = [(name, str(value)) for name, value in hashes.items() if value]
    return Table(f"{run.name}: hashes.", ("What", "Hash"), rows)
