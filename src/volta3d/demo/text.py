"""The demo's last screen: what was made, what was learnt, a line each, and what to open."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.evaluate.segmentation.summary import ALL

ARMS = {
    "volta": "pretrained",
    "linear": "pretrained, frozen",
    "scratch": "same network, scratch",
    "untrained": "untrained, frozen",
    "unet": "3D U-Net, scratch",
    "volume": "volume alone",
}
SHOWN = ("untrained regions", "trained regions")
NAME, CELL = 26, 18  # widths of the table's columns
Row = Mapping[Any, Any] | None


@dataclass(frozen=True)
class Made:
    """How many synthetic people there are, and how many of them pretraining saw."""

    people: int
    pretraining: int
    labelled: int

    def line(self) -> str:
        """In words."""
        return (
            f"{self.people} synthetic brains: {self.pretraining} to pretrain on, "
            f"{self.labelled} others with labels"
        )


def screen(
    made: Made, probes: pd.DataFrame, tasks: Mapping[str, Mapping[str, Any]], alarms: list[str]
) -> list[str]:
    """The lines above the path to open, for a screen of 80 columns.

    Args:
        made: the people.
        probes: rows of the probe table.
        tasks: name to what its metrics.json holds.
        alarms: of pretraining.
    """
    rang = ", ".join(sorted(set(alarms))) or "none"
    return [
        "",
        f"Made     {made.line()}",
        f"Learnt   in pretraining, alarms: {rang}",
        *(f"         {line}" for line in probe_lines(probes)),
        "",
        *task_lines(tasks),
        "",
        "All brains are SYNTHETIC: this says nothing about people. Size alone tells sex.",
    ]


def probe_lines(probes: pd.DataFrame) -> list[str]:
    """A line for each column that was probed linearly: before and after pretraining.

    The site is left out: knowing it better is a confound, and the report says so.

    Args:
        probes: rows of the probe table.
    """
    linear = probes[probes["probe"] == "linear"]
    rows = {
        (str(r["column"]), str(r["metric"]), str(r["features"])): r
        for r in linear.to_dict("records")
    }
    lines = []
    for column, metric in dict.fromkeys(key[:2] for key in rows):
        if metric not in ("AUROC", "r") or column == "site":
            continue
        before, after = (rows.get((column, metric, name)) for name in SHOWN)
        if before and after:
            lines.append(
                f"{column}, {metric}: {before['score']:.2f} before, {after['score']:.2f} after"
                f"{_paired(after)}"
            )
    return lines


def _paired(row: Row) -> str:
    gain = (row or {}).get("gain")
    if not row or gain is None or gain != gain:
        return ""
    return f" (gain {gain:+.2f} [{row['gain_low']:+.2f}, {row['gain_high']:+.2f}])"


def task_lines(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One table of all arms on all tasks: AUROC or Dice, each with its 95 % interval.

    Args:
        tasks: name to what its metrics.json holds.
    """
    columns = {_title(name, metrics): scores(metrics) for name, metrics in tasks.items()}
    arms = [arm for arm in ARMS if any(arm in found for found in columns.values())]
    arms += [a for found in columns.values() for a in found if a not in ARMS and a not in arms]
    lines = [_row("Few labels, unseen people", list(columns))]
    for arm in arms:
        cells = [_interval(found[arm]) if arm in found else "" for found in columns.values()]
        lines.append(_row(f"  {ARMS.get(arm, arm)}", cells))
    return lines


def _row(first: str, cells: list[str]) -> str:
    return f"{first:<{NAME}}{''.join(f'{cell:>{CELL}}' for cell in cells)}".rstrip()


def _title(name: str, metrics: Mapping[str, Any]) -> str:
    return f"{name}, {'Dice' if metrics['kind'] == 'segmentation' else 'AUROC'}"


def scores(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Arm to its main score: ``score``, ``low``, ``high``; None where undefined.

    Args:
        metrics: what a metrics.json holds; AUROC is the mean over folds, Dice that over cases and
            both sides.
    """
    if metrics["kind"] == "segmentation":
        found = {arm: by[ALL]["dice"] for arm, by in metrics["results"].items()}
        return {
            arm: {"score": _known(d["mean"]), "low": _known(d["low"]), "high": _known(d["high"])}
            for arm, d in found.items()
        }
    return {
        r["arm"]: {k: _known(r[k]) for k in ("score", "low", "high")}
        for r in metrics["rows"]
        if r["metric"] == "AUROC"
    }


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _interval(found: Mapping[str, float | None]) -> str:
    score, low, high = (found[k] for k in ("score", "low", "high"))
    if score is None:
        return "undefined"
    return f"{score:.2f}" + (f" [{low:.2f}, {high:.2f}]" if None not in (low, high) else "")


def how_to_open(index: Path) -> list[str]:
    """What to open, and what to do on a machine without a display or a browser."""
    lines = [f"Open     {index}"]
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        lines.append(f"         No display here: copy {index.parent} to where a browser is")
    return lines
