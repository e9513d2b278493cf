"""metrics.json: one schema for classification, regression and segmentation, written and read here.

``rows`` has one entry for each arm, structure (segmentation), fraction of the training part and
metric; ``comparisons`` one for each pair of arms. Whatever else a file says of its run stands
beside them. Files of format 1 are read too: classification's lacks the means over folds, and
segmentation's has ``results``, ``tests`` and ``structure_tests`` instead of rows and comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.artefacts import METRICS
from volta3d.errors import VoltaError
from volta3d.files import read_json, write_json

FORMAT = 2
ALL_STRUCTURES = "mean of structures"
MAIN = {"classification": "AUROC", "regression": "MAE", "segmentation": "Dice"}
# the names of a segmentation's metrics in its summary by structure, and in rows
SEGMENTED = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "msd_mm": "mean surface distance (mm)",
    "error_mm3": "volume error (mm3)",
    "absolute_error_percent": "absolute volume error (%)",
    "volume_r": "volume r",
}
WILCOXON = "Wilcoxon signed rank on subjects' means"


@dataclass(frozen=True)
class Row:
    """One number with its 95 % interval over subjects; None where undefined.

    Args:
        arm, metric: whose and what.
        score, low, high: pooled over folds, but for those that are means over folds by definition.
        scans, subjects: how many it comes from.
        fraction: of the training part.
        structure: of a segmentation; "" otherwise.
        fold_mean, fold_sd: over the folds in which it is defined; None where there are none.
    """

    arm: str
    metric: str
    score: float | None
    low: float | None
    high: float | None
    scans: int
    subjects: int
    fraction: float = 1.0
    structure: str = ""
    fold_mean: float | None = None
    fold_sd: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two arms on the same subjects; None where undefined.

    Args:
        first, second, metric: what is compared.
        difference, low, high: first - second, with its 95 % interval over subjects.
        p, p_holm: of ``test``, and corrected within its family.
        test: its name.
        fraction, structure: as of ``Row``.
    """

    first: str
    second: str
    metric: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    test: str
    fraction: float = 1.0
    structure: str = ""


@dataclass(frozen=True)
class Metrics:
    """What a metrics.json holds.

    Args:
        kind: classification, regression or segmentation.
        rows, comparisons: the numbers.
        synthetic: whether the scans were made by a program.
        content: all of the file, for what else it says of its run.
    """

    kind: str
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    synthetic: bool
    content: Mapping[str, Any]

    @property
    def main(self) -> str:
        """The metric that a run is judged by."""
        return MAIN[self.kind]

    @property
    def arms(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(row.arm for row in self.rows))

    def main_rows(self) -> dict[str, Row]:
        """Arm to its main score: of the largest fraction, and over all structures."""
        own = [r for r in self.rows if r.metric == self.main]
        wanted = [r for r in own if r.structure in ("", ALL_STRUCTURES)]
        return {r.arm: r for r in sorted(wanted, key=lambda r: r.fraction)}


def read_metrics_file(path: Path) -> Metrics:
    """The metrics.json at ``path``, or in that folder, of any format.

    Raises:
        VoltaError: missing, unreadable, or not a file of metrics.
    """
    file = path / METRICS if path.is_dir() else path
    content = read_json(file)
    try:
        return parse_metrics(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VoltaError(
            f"Not a file of metrics: {type(error).__name__} {error}",
            where=file,
            fix="Run volta3d evaluate again",
        ) from error


def write_metrics_file(folder: Path, content: Mapping[str, Any]) -> None:
    """Publish metrics.json in a folder.

    Raises:
        VoltaError: it cannot be written.
        ValueError: the content does not follow the schema.
    """
    parse_metrics(content)
    write_json(folder / METRICS, dict(content))


def parse_metrics(content: Mapping[str, Any]) -> Metrics:
    """The content of a metrics.json, of any format.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    if content["kind"] not in MAIN:
        raise ValueError(f"kind {content['kind']}")
    if int(content.get("format", 1)) > FORMAT:
        raise ValueError(f"format {content['format']}, of a later volta3d")
    if "rows" in content:
        rows = tuple(_row(r) for r in content["rows"])
        comparisons = tuple(_comparison(c) for c in content["comparisons"])
    else:
        rows = tuple(rows_of_structures(content["results"]))
        comparisons = tuple(comparisons_of_structures(content))
    synthetic = bool(content.get("synthetic", False))
    return Metrics(str(content["kind"]), rows, comparisons, synthetic, content)


def segmentation_rows(summary: Mapping[str, Any]) -> dict[str, Any]:
    """``format``, ``rows`` and ``comparisons`` of a summary by structure, as plain data."""
    return {
        "format": FORMAT,
        "rows": [asdict(r) for r in rows_of_structures(summary["results"])],
        "comparisons": [asdict(c) for c in comparisons_of_structures(summary)],
    }


def rows_of_structures(results: Mapping[str, Any]) -> Iterator[Row]:
    """Rows of arm to structure to metrics."""
    for arm, structures in results.items():
        for structure, own in structures.items():
            for key, metric in SEGMENTED.items():
                if key not in own:
                    continue
                score, low, high = (_known(own[key][k]) for k in ("mean", "low", "high"))
                yield Row(
                    arm,
                    metric,
                    score,
                    low,
                    high,
                    scans=int(own[key].get("n", own["cases"])),
                    subjects=int(own["subjects"]),
                    structure=structure,
                )


def comparisons_of_structures(summary: Mapping[str, Any]) -> Iterator[Comparison]:
    """The paired tests on the mean of structures, then those on each."""
    for test in (*summary["tests"], *summary.get("structure_tests", [])):
        yield Comparison(
            test["first"],
            test["second"],
            SEGMENTED[test["metric"]],
            difference=_known(test["difference"]),
            low=_known(test["low"]),
            high=_known(test["high"]),
            p=_known(test["p"]),
            p_holm=_known(test["p_holm"]),
            test=WILCOXON,
            structure=test.get("structure", ALL_STRUCTURES),
        )


def _row(row: Mapping[str, Any]) -> Row:
    folds = [float(f) for f in row.get("folds") or [] if f is not None]
    mean = row.get("fold_mean", float(np.mean(folds)) if folds else None)
    return Row(
        str(row["arm"]),
        str(row["metric"]),
        score=_known(row["score"]),
        low=_known(row["low"]),
        high=_known(row["high"]),
        scans=int(row["scans"]),
        subjects=int(row["subjects"]),
        fraction=float(row.get("fraction", 1.0)),
        structure=str(row.get("structure", "")),
        fold_mean=_known(mean),
        fold_sd=_known(row.get("fold_sd")),
    )


def _comparison(row: Mapping[str, Any]) -> Comparison:
    return Comparison(
        str(row["first"]),
        str(row["second"]),
        str(row["metric"]),
        difference=_known(row["difference"]),
        low=_known(row["low"]),
        high=_known(row["high"]),
        p=_known(row["p"]),
        p_holm=_known(row["p_holm"]),
        test=str(row["test"]),
        fraction=float(row.get("fraction", 1.0)),
        structure=str(row.get("structure", "")),
    )


def _known(value: float | None) -> float | None:
    """A number, or None where it is undefined."""
    return None if value is None or not math.isfinite(value) else float(value)
