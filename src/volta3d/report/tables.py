"""Tables of the report, as plain text cells that the template escapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.config import load_pretrain
from volta3d.files import content_hash, sha256
from volta3d.report.evidence import CohortFacts
from volta3d.report.runfolder import Run
from volta3d.report.style import UNKNOWN, number
from volta3d.report.verdict import health


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Attributes:
        caption: what it shows.
        head: column names.
        rows: cells as text.
        numeric: columns aligned to the right.
        strong: rows that stand out.
        folded: closed until the reader opens it.
    """

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()
    folded: bool = False

    @property
    def gaps(self) -> str:
        """What an empty cell means, where there is one."""
        empty = any(cell in ("", UNKNOWN) for row in self.rows for cell in row)
        return f"{UNKNOWN}: not measured, or it does not apply." if empty else ""


def alarm_table(run: Run) -> Table | None:
    """Alarms by name, those that rang longest first; None without any."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for alarm in run.alarms:
        groups.setdefault((str(alarm.get("name")), str(alarm.get("what"))), []).append(alarm)
    last = run.epochs[-1].get("epoch") if run.epochs else None
    rows = []
    for (name, what), found in sorted(groups.items(), key=lambda item: -len(item[1])):
        epochs = [a["epoch"] for a in found if isinstance(a.get("epoch"), int | float)]
        limit = found[0].get("limit")
        worst = _worst([a.get("value") for a in found], limit)
        still = "yes" if last is not None and last in epochs else "no"
        when = f"{number(min(epochs))}\N{EN DASH}{number(max(epochs))}" if epochs else UNKNOWN
        rows.append(
            (
                name.replace("_", " "),
                what,
                str(len(found)),
                when,
                worst,
                number(limit, trim=True),
                still,
            )
        )
    if not rows:
        return None
    return Table(
        "Alarms, by how often they rang.",
        ("Monitor", "Meaning", "Times", "Epochs", "Worst", "Limit", "At the end?"),
        rows,
        numeric=frozenset({2, 3, 4, 5}),
        strong=frozenset(i for i, row in enumerate(rows) if row[-1] == "yes"),
    )


def _worst(values: Sequence[Any], limit: Any) -> str:
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    if not numbers or not isinstance(limit, int | float):
        return UNKNOWN
    return number(max(numbers, key=lambda v: abs(v - limit)))


def config_tables(run: Run) -> list[Table]:
    """What differs from the paper's preset, then every setting."""
    if not run.raw:
        return []
    mine = flatten(run.config.content() if run.config else run.raw)
    paper = flatten(load_pretrain("paper").content())
    differs = [(k, v, paper.get(k, UNKNOWN)) for k, v in mine.items() if v != paper.get(k)]
    differs = [row for row in differs if row[0] != "preset"]
    tables = []
    if differs:
        head = ("Setting", "This run", "Preset paper")
        tables.append(Table("What differs from preset paper.", head, differs))
    everything = [(k, v) for k, v in mine.items()]
    tables.append(Table("Every setting.", ("Setting", "Value"), everything, folded=True))
    return tables


def config_table(content: Mapping[str, Any]) -> Table:
    """Every setting of a resolved configuration, folded."""
    rows = list(flatten(content).items())
    return Table("Every setting.", ("Setting", "Value"), rows, folded=True)


def environment_table(run: Run) -> Table | None:
    """Software and machine."""
    rows = list(flatten(run.environment).items())
    return Table("Software and machine.", ("What", "Value"), rows) if rows else None


def hash_table(
    run: Run, files: Mapping[str, Path | None], cohort: CohortFacts | None
) -> Table | None:
    """What each number of the report can be traced to."""
    rows = []
    if run.raw:
        rows.append(
            ("configuration", run.config.hash() if run.config else content_hash(_json(run)))
        )
    for entry in run.cohorts:
        rows.append((f"cohort {entry.get('path', '?')}", str(entry.get("hash", UNKNOWN))))
    if cohort is not None:
        rows.append((f"cohort {cohort.name}, as opened for this report", cohort.hash))
    for name, path in files.items():
        if path is not None and path.is_file():
            rows.append((f"{name}, SHA-256", sha256(path)))
    return Table("Hashes.", ("What", "Hash"), rows) if rows else None


def _json(run: Run) -> dict[str, str]:
    return flatten(run.raw)


MONITORS = (
    ("epoch", "Epoch"),
    ("step", "Step"),
    ("information", "Information"),
    ("teacher_entropy", "Entropy"),
    ("mean_entropy", "Entropy of mean"),
    ("prototypes_used", "Prototypes"),
    ("feature_std", "Feature sd"),
    ("effective_rank", "Effective rank"),
    ("mean_cosine", "Cosine"),
    ("bottleneck_cosine", "Cosine, bottleneck"),
    ("icc", "ICC"),
    ("center_norm", "Centre norm"),
)


def monitor_table(run: Run) -> Table | None:
    """The values behind the monitor charts."""
    if not run.epochs:
        return None
    present = [(k, title) for k, title in MONITORS if any(r.get(k) is not None for r in run.epochs)]
    rows = [tuple(number(record.get(k)) for k, _ in present) for record in run.epochs]
    head = tuple(title for _, title in present)
    every = frozenset(range(len(head)))
    return Table("Monitor values by epoch.", head, rows, numeric=every, folded=True)


def runs_table(runs: Sequence[Run]) -> Table:
    """Several runs side by side."""
    rows = []
    for run in runs:
        found = health(run)
        facts = {fact.label: f"{fact.before} → {fact.after}" for fact in found.facts}
        labels = ("Information over scans", "Effective rank", "CLS loss")
        preset = str(run.raw.get("preset", UNKNOWN))
        rows.append(
            (
                run.name,
                preset,
                number(run.last_step),
                found.title,
                *(facts.get(label, UNKNOWN) for label in labels),
            )
        )
    head = ("Run", "Preset", "Steps", "State", "Information, nat", "Effective rank", "CLS loss")
    return Table("Runs, before → after.", head, rows, numeric=frozenset({2, 4, 5, 6}))


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys and text."""
    rows: dict[str, str] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows |= flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows[name] = ", ".join(_plain(v) for v in value)
        else:
            rows[name] = _plain(value)
    return rows


def _plain(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
