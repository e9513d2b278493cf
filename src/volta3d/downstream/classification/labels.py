"""The column that is predicted: values of the labelled scans, and why the others are left out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.cohort.store import Cohort
from volta3d.cohort.subjects import subjects_of
from volta3d.config import ClassifyConfig
from volta3d.downstream.classification.first_visits import first_visits
from volta3d.downstream.classification.label_table import no_row_matches, own_table
from volta3d.errors import UsageError, nearest
from volta3d.files import content_hash
from volta3d.prepare.tables import MISSING
from volta3d.statistics.targets import Target

CONTROLS = ("cn", "hc", "nc", "control", "controls", "healthy", "normal", "no", "0", "false")
MOST_CLASSES = 50
NOT_LABELS = ("scan_id", "participant_id", "session", "label_file", "source", "source_sha256")


@dataclass(frozen=True)
class Labelled:
    """The scans with a label, in the order of the cohort.

    Args:
        target: the column.
        kind: ``classification`` or ``regression``.
        labels: names of the classes by index, the positive one last; empty for numbers.
        rows: [n] index of each scan in the cohort.
        scan_ids: [n].
        subjects: [n] whose scan it is.
        values: float64 [n], numbers or indices of classes.
        dropped: scans left out: ``scan_id``, ``reason``, ``what``.
        findings: what else was noticed, one sentence each.
    """

    target: str
    kind: str
    labels: tuple[str, ...]
    rows: np.ndarray
    scan_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    values: np.ndarray
    dropped: tuple[dict[str, str], ...]
    findings: tuple[str, ...]

    @property
    def categorical(self) -> bool:
        """Whether values are classes."""
        return self.kind == "classification"

    @property
    def hash(self) -> str:
        """A short hash of who has which label."""
        return content_hash([self.scan_ids, self.subjects, self.values.tolist()])

    def by_subject(self) -> dict[str, float]:
        """Each subject's class (they agree, see ``read_labels``) or mean number."""
        found: dict[str, list[float]] = {}
        for subject, value in zip(self.subjects, self.values, strict=True):
            found.setdefault(subject, []).append(float(value))
        combine = min if self.categorical else lambda v: sum(v) / len(v)
        return {s: float(combine(v)) for s, v in found.items()}

    def where(self, subjects: Sequence[str]) -> np.ndarray:
        """Positions [k] in these arrays of all scans of some subjects, in order."""
        wanted = set(subjects)
        return np.array([i for i, s in enumerate(self.subjects) if s in wanted], np.int64)


def read_labels(
    cohort: Cohort, target: str, config: ClassifyConfig, table: Path | None = None
) -> Labelled:
    """The values of a column of participants.tsv, or of a table of one's own.

    Args:
        cohort: gives scans and subjects.
        target: the column.
        config: ``task``, ``classes``, ``visits``, ``conflicts`` and ``folds``.
        table: rows by ``scan_id``, or by ``participant_id`` and, if it has one, ``session``.

    Raises:
        UsageError: no such column, nothing to predict, a subject with two labels, or a class with
            fewer subjects than folds.
    """
    people = cohort.participants
    subjects, findings = subjects_of(people)
    given, dropped = (
        (_column(people, target), {})
        if table is None
        else own_table(table, people, target, config.classes)
    )
    texts = one_spelling(["" if _missing(v, config.classes) else label_text(v) for v in given])
    for row, text in enumerate(texts):
        if not text and row not in dropped:
            dropped[row] = ("no-label", f"No {target} is known for it")
    known = [row for row, text in enumerate(texts) if text]
    if not known and table is not None and len(dropped) == len(people):
        raise no_row_matches(table, people)
    kind = _kind([texts[row] for row in known], given, config, target)
    if kind == "classification":
        labels = _classes([texts[row] for row in known], config, target)
        for row in known:
            if texts[row] not in labels:
                dropped[row] = ("other-class", f"Its {target} is {texts[row]}")
        known = [row for row in known if texts[row] in labels]
        if config.visits == "first":
            dropped |= first_visits(known, people)
            known = [row for row in known if row not in dropped]
        values = [float(labels.index(texts[row])) for row in known]
        own = [subjects[row] for row in known]
        known, values, clash = _consistent(known, values, own, labels, config)
        dropped |= clash
    else:
        labels = ()
        values = [float(texts[row]) for row in known]
    found = Labelled(
        target=target,
        kind=kind,
        labels=labels,
        rows=np.array(known, np.int64),
        scan_ids=tuple(str(people["scan_id"].iloc[row]) for row in known),
        subjects=tuple(subjects[row] for row in known),
        values=np.array(values, np.float64),
        dropped=tuple(
            {"scan_id": str(people["scan_id"].iloc[row]), "reason": reason, "what": what}
            for row, (reason, what) in sorted(dropped.items())
        ),
        findings=tuple(findings),
    )
    _enough(found, config.folds)
    return found


def _column(people: Any, target: str) -> list[Any]:
    usable = [str(c) for c in people.columns if c not in NOT_LABELS]
    if target not in usable:
        raise UsageError(
            "No such column to predict in the cohort's participants.tsv",
            where=target,
            fix=nearest(target, usable) + " A table of your own is given with --labels",
        )
    values: list[Any] = people[target].to_list()
    return values


def _missing(value: Any, classes: Sequence[str]) -> bool:
    if value is None or value != value:
        return True
    text = str(value).strip()
    return text.lower() in MISSING and text not in classes


def label_text(value: Any) -> str:
    """A label as text: text as it is written, numbers without an idle fraction, "" of infinity."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value).strip()


def one_spelling(texts: Sequence[str]) -> list[str]:
    """Labels of which 1 and 1.0 become 1, as both stand in one table; 010 and 10 stay apart."""
    spelled: dict[str, set[str]] = {}
    for text in texts:
        spelled.setdefault(_plain_number(text), set()).add(text)
    return [_plain_number(t) if len(spelled[_plain_number(t)]) > 1 else t for t in texts]


def named_among(text: str, names: Sequence[str]) -> str:
    """The name that a label is one of, 1 for 1.0 where that is what it is called; else itself."""
    if text in names:
        return text
    same = [name for name in names if _plain_number(name) == _plain_number(text)]
    return same[0] if len(same) == 1 else text


def _plain_number(text: str) -> str:
    return re.sub(r"^(-?(?:0|[1-9]\d*))\.0+$", r"\1", text)


def _kind(texts: Sequence[str], given: Sequence[Any], config: ClassifyConfig, target: str) -> str:
    if not texts:
        raise UsageError("No scan has a value in this column", where=target, fix="Choose another")
    if config.task == "auto" and not config.classes:
        text = any(isinstance(v, str) for v in given)
        column = [float(t) for t in texts] if _numbers(texts) and not text else list(texts)
        return "classification" if Target.read(column).classes else "regression"
    if config.task == "regression":
        if not _numbers(texts):
            odd = next(t for t in texts if not _numbers([t]))
            raise UsageError(
                f"'{odd}' is not a number", where=target, fix="Use --set task=classification"
            )
        return "regression"
    return "classification"


def _numbers(texts: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(t)) for t in texts)
    except ValueError:
        return False


def _classes(texts: Sequence[str], config: ClassifyConfig, target: str) -> tuple[str, ...]:
    """The classes in order: those asked for, else controls first and the rest by name."""
    present = sorted(set(texts))
    if config.classes:
        wanted = tuple(named_among(c.strip(), present) for c in config.classes)
        for name in wanted:
            if name not in present:
                raise UsageError("No scan has this class", where=name, fix=nearest(name, present))
        present = list(wanted)
    if len({c.casefold() for c in present}) < len(present):
        raise UsageError(
            f"Classes differ only by case: {', '.join(present)}",
            where=target,
            fix="Write each class in one way in the table",
        )
    if not 2 <= len(present) <= MOST_CLASSES:
        raise UsageError(
            f"{len(present)} classes: {', '.join(present[:5])}{'...' if len(present) > 5 else ''}",
            where=target,
            fix="Classification wants two or more; for numbers use --set task=regression",
        )
    if config.classes:
        return tuple(present)
    return tuple(sorted(present, key=lambda c: (c.casefold() not in CONTROLS, c)))


def _consistent(
    known: list[int],
    values: list[float],
    subjects: Sequence[str],
    labels: Sequence[str],
    config: ClassifyConfig,
) -> tuple[list[int], list[float], dict[int, tuple[str, str]]]:
    """Subjects with two labels refused, or their scans left out and recorded."""
    seen: dict[str, set[float]] = {}
    for subject, value in zip(subjects, values, strict=True):
        seen.setdefault(subject, set()).add(value)
    torn = {subject for subject, found in seen.items() if len(found) > 1}
    if torn and config.conflicts == "refuse":
        first = min(torn)
        names = " and ".join(labels[int(v)] for v in sorted(seen[first]))
        raise UsageError(
            f"{len(torn)} subjects have two labels; the first is {names}",
            where=first,
            fix="Correct the table, or leave such subjects out with --set conflicts=drop",
        )
    clash = {
        row: ("two-labels", "Its subject has scans with different labels")
        for row, subject in zip(known, subjects, strict=True)
        if subject in torn
    }
    kept = [(r, v) for r, v in zip(known, values, strict=True) if r not in clash]
    return [r for r, _ in kept], [v for _, v in kept], clash


def _enough(found: Labelled, folds: int) -> None:
    """Refuse what cannot be cross-validated, naming the class."""
    subjects: Mapping[str, float] = found.by_subject()
    if found.categorical:
        for index, label in enumerate(found.labels):
            count = sum(v == index for v in subjects.values())
            if count < folds:
                raise UsageError(
                    f"Class {label} has {count} subjects, fewer than {folds} folds",
                    where=found.target,
                    fix=f"Use --folds {max(2, count)}, or leave the class out with "
                    "--set 'classes=[A, B]'",
                )
    elif len(subjects) < 2 * folds or len(set(subjects.values())) < 2:
        raise UsageError(
            f"{len(subjects)} subjects with {len(set(subjects.values()))} different values are "
            f"too few for {folds} folds",
            where=found.target,
            fix="Use fewer --folds, or a column with more in it",
        )
