"""Scores of label maps as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volta3d.evaluate.segmentation.summary import ALL
from volta3d.evaluate.text_table import aligned, number, p_text

Rows = list[list[str]]


def render(summary: Mapping[str, Any]) -> str:
    """A row for each arm and structure, the tests between arms, then what to look at."""
    text = ["In the scans' own space" + (", SYNTHETIC scans" if summary.get("synthetic") else "")]
    if summary.get("selection"):
        text.append(f"Epoch chosen on {summary['selection']}")
    repeated = {a: n for a, n in summary.get("repetitions", {}).items() if n > 1}
    if repeated:
        counts = ", ".join(f"{arm}: {n}" for arm, n in repeated.items())
        text.append(f"Repetitions, averaged case by case: {counts}")
    text += aligned(_scores(summary["results"]))
    text += _unscored(summary["results"])
    if summary["tests"]:
        text += ["", "Paired by subject, 95 % interval; Wilcoxon's signed-rank test, Holm over all"]
        text += aligned(_tests(summary["tests"]))
    if summary.get("structure_tests"):
        text += ["", "The same for each structure, Holm over all rows of a metric"]
        text += aligned(_structure_tests(summary["structure_tests"]))
    return "\n".join(text + _notes(summary))


def _scores(results: Mapping[str, Any]) -> Rows:
    counts = ["missed", *(c for c in ("invented", "absent", "unscored") if _any(results, c))]
    gaps = "absent" in counts
    head = ["arm", "structure", "Dice", "95 % interval", "HD95 mm", "mean mm", "volume error", "r"]
    lines = [[*head, *counts, "n", *(["n of Dice"] if gaps else [])]]
    for arm, structures in results.items():
        names = [n for n in structures if n != ALL] + ([ALL] if len(structures) > 2 else [])
        for name in names:
            m = structures[name]
            lines.append(
                [
                    arm,
                    name,
                    number(m["dice"]["mean"]),
                    f"{number(m['dice']['low'])} to {number(m['dice']['high'])}",
                    number(m["hd95_mm"]["mean"], 2),
                    number(m["msd_mm"]["mean"], 2),
                    f"{number(m['error_mm3']['mean'], 0)} mm3",
                    number(m["volume_r"]["mean"], 2),
                    *(str(m.get(count, 0)) for count in counts),
                    str(m["cases"]),
                    *([str(m["dice"].get("n", "undefined"))] if gaps else []),
                ]
            )
    return lines


def _any(results: Mapping[str, Any], count: str) -> bool:
    """Whether any case of any arm and structure is counted there."""
    return any(m.get(count) for structures in results.values() for m in structures.values())


def _unscored(results: Mapping[str, Any]) -> list[str]:
    """Which arms' means leave cases out."""
    found = []
    for arm, structures in results.items():
        m = structures[ALL]
        if m.get("unscored"):
            total = m["cases"] + m["unscored"]
            found.append(
                f"{arm}: {m['unscored']} of {total} cases have no score, and its means leave them "
                "out; paired differences are of cases that both arms have"
            )
    return found


def _tests(tests: Sequence[Mapping[str, Any]]) -> Rows:
    lines = [["metric", "difference", "mean", "from", "to", "n", "p", "Holm"]]
    return lines + [
        [
            t["metric"],
            f"{t['first']} - {t['second']}",
            *(number(t[k], signed=True) for k in ("difference", "low", "high")),
            str(t["n"]),
            p_text(t["p"]),
            p_text(t["p_holm"]),
        ]
        for t in tests
    ]


def _structure_tests(tests: Sequence[Mapping[str, Any]]) -> Rows:
    """A row for each structure and pair of arms, its metrics side by side."""
    names = {"dice": "Dice", "hd95_mm": "HD95 mm"}
    head = ["structure", "difference"]
    for metric in names:
        head += [names[metric], "95 % interval", "p", "Holm"]
    lines = [head]
    by_row: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for t in tests:
        by_row.setdefault((t["structure"], f"{t['first']} - {t['second']}"), {})[t["metric"]] = t
    for (structure, pair), own in by_row.items():
        cells = [structure, pair]
        for metric in names:
            t = own[metric]
            low, high = (number(t[k], signed=True) for k in ("low", "high"))
            cells += [number(t["difference"], signed=True), f"{low} to {high}"]
            cells += [p_text(t["p"]), p_text(t["p_holm"])]
        lines.append(cells)
    return lines


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """Findings, and what could not be scored."""
    text = [
        f"Noticed: {f['arm']}: {f['what']}. {f['how_to_fix']}." for f in summary.get("findings", [])
    ]
    for name, kinds in summary.get("passed_over", {}).items():
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        text.append(f"Files passed over in {name}: {counts}")
    problems = summary["not_scored"]
    if problems:
        first = problems[0]
        what = f"{first['arm']}, {first['case']}: {first['what']}"
        text.append(f"{len(problems)} label maps could not be scored, the first: {what}")
    return text
