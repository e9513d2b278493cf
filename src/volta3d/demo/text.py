"""The demo's closing words: what was learnt, beside what needs no learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from volta3d.evaluate.metrics_file import parse_metrics

SHOWN = ("untrained regions", "trained regions", "volume only")
ARMS = {
    "volta": "the encoder",
    "scratch": "same ViT, scratch",
    "linear": "linear on encoder",
    "volume": "volume alone",
    "unet": "3D U-Net, scratch",
}
LIMITS = (
    "Head size is scaled away when these scans are prepared, and sex shows in nothing else:",
    "only volume alone can tell it. Diagnosis moves the surface of the hippocampus by less",
    "than a voxel here. The encoder saw all of these scans, without labels, and the arms",
    "learn for a few epochs: this shows that everything runs, not which arm is better.",
)
Row = Mapping[Any, Any] | None


def probe_lines(probes: pd.DataFrame) -> list[str]:
    """The linear probes before and after training, volume alone beside them.

    Args:
        probes: rows of the probe table.
    """
    linear = probes[probes["probe"] == "linear"]
    rows = {
        (str(r["column"]), str(r["metric"]), str(r["features"])): r
        for r in linear.to_dict("records")
    }
    lines = [
        "What was learnt, on SYNTHETIC brains: linear probes on the encoder's patch tokens,",
        "averaged over 27 regions; cross-validated by subject, 95 % intervals in brackets.",
        "",
        f"  {'':<18}{'untrained':>10}{'trained':>9}  {'gain':<22}{'volume alone':>12}",
    ]
    for column, metric in dict.fromkeys(key[:2] for key in rows):
        if metric in ("AUROC", "r"):
            own = {name: rows.get((column, metric, name)) for name in SHOWN}
            lines.append(_probed(f"{column}, {metric}", *own.values()))
    return lines


def _probed(what: str, untrained: Row, trained: Row, volume: Row) -> str:
    """One line of the table of probes; a score that is missing stays empty."""
    gain = (trained or {}).get("gain")
    paired = ""
    if trained and gain is not None and gain == gain:
        paired = f"{gain:+.2f} [{trained['gain_low']:+.2f}, {trained['gain_high']:+.2f}]"
    before, after, alone = (f"{r['score']:.2f}" if r else "" for r in (untrained, trained, volume))
    return f"  {what:<18}{before:>10}{after:>9}  {paired:<22}{alone:>12}"


def task_lines(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One table of all arms on all tasks: AUROC or Dice, each with its interval.

    Args:
        tasks: name to what its metrics.json holds.
    """
    columns = {_title(name, metrics): scores(metrics) for name, metrics in tasks.items()}
    arms = list(dict.fromkeys(arm for found in columns.values() for arm in found))
    lines = [
        "Arms compared on SYNTHETIC subjects that they were not trained on, 95 % intervals in",
        "brackets; AUROC .5 is guessing, Dice is measured in the scans' own space.",
        "",
        _row("", list(columns)),
    ]
    for arm in arms:
        cells = [_interval(found[arm]) if arm in found else "" for found in columns.values()]
        lines.append(_row(ARMS.get(arm, arm), cells))
    return lines


def _row(first: str, cells: Sequence[str]) -> str:
    return f"  {first:<18}{''.join(f'{cell:>21}' for cell in cells)}".rstrip()


def _title(name: str, metrics: Mapping[str, Any]) -> str:
    return f"{name}, {parse_metrics(metrics).main}"


def scores(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Arm to its main score: ``score``, ``low``, ``high``; None where undefined.

    Args:
        metrics: what a metrics.json holds; AUROC is the mean over folds, Dice that over cases and
            both sides.
    """
    found = parse_metrics(metrics).main_rows()
    return {arm: {"score": r.score, "low": r.low, "high": r.high} for arm, r in found.items()}


def _interval(found: Mapping[str, float | None]) -> str:
    score, low, high = (found[k] for k in ("score", "low", "high"))
    if score is None:
        return "undefined"
    return f"{score:.2f}" + (f" [{low:.2f}, {high:.2f}]" if None not in (low, high) else "")
