"""Scores of label maps as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volta3d.evaluate.segmentation_summary import ALL
from volta3d.evaluate.statistics import p_text


def render(summary: Mapping[str, Any]) -> str:
    """A row for each arm and structure, then the tests between arms."""
    head = ["arm", "structure", "Dice", "95 % interval", "HD95 mm", "mean mm", "volume error"]
    lines = [[*head, "r", "missed", "n"]]
    for arm, structures in summary["results"].items():
        names = [n for n in structures if n != ALL] + ([ALL] if len(structures) > 2 else [])
        for name in names:
            m = structures[name]
            lines.append(
                [
                    arm,
                    name,
                    _number(m["dice"]["mean"]),
                    f"{_number(m['dice']['low'])} to {_number(m['dice']['high'])}",
                    _number(m["hd95_mm"]["mean"], 2),
                    _number(m["msd_mm"]["mean"], 2),
                    f"{_number(m['error_mm3']['mean'], 0)} mm3",
                    _number(m["volume_r"]["mean"], 2),
                    str(m["missed"]),
                    str(m["cases"]),
                ]
            )
    text = ["In the scans' own space" + (", SYNTHETIC scans" if summary.get("synthetic") else "")]
    if summary.get("selection"):
        text.append(f"Epoch chosen on {summary['selection']}")
    text += _aligned(lines)
    if summary["tests"]:
        text += ["", "Paired by subject, 95 % interval; Wilcoxon's signed-rank test, Holm over all"]
        tests = [["metric", "difference", "mean", "from", "to", "n", "p", "Holm"]]
        tests += [
            [
                t["metric"],
                f"{t['first']} - {t['second']}",
                *(_number(t[k], signed=True) for k in ("difference", "low", "high")),
                str(t["n"]),
                p_text(t["p"]),
                p_text(t["p_holm"]),
            ]
            for t in summary["tests"]
        ]
        text += _aligned(tests)
    problems = summary["not_scored"]
    if problems:
        first = problems[0]
        what = f"{first['arm']}, {first['case']}: {first['what']}"
        text.append(f"{len(problems)} label maps could not be scored, the first: {what}")
    return "\n".join(text)


def _number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    if value is None or value != value:
        return "undefined"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
