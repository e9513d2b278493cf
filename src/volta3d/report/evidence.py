"""What was measured besides the run: probes, embeddings, and the cohort they come from."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from volta3d.errors import VoltaError

_CLASSES = re.compile(r"([1-9][0-9]{0,5}) classes")

Role = Literal["trained", "random", "volume", "other"]

LOWER_IS_BETTER = {"mae", "mse", "rmse", "error"}
CHANCE = {"auroc": 0.5, "auc": 0.5, "r": 0.0, "pearson r": 0.0, "spearman r": 0.0, "r2": 0.0}
METRIC_NAMES = {"auroc": "AUROC", "auc": "AUROC", "r2": "R²", "r": "correlation r", "mae": "MAE"}
UNITS = {"age": "years"}  # of columns whose unit is known
# What a scan was made with, not who was scanned: features that know it better are worse.
CONFOUNDS = {"site", "scanner", "dataset", "manufacturer", "model", "field_strength", "session"}
PROBE_NAMES = {"linear": "linear probe", "knn": "nearest neighbours"}
# One metric per column stands in the headline; fixed beforehand, never the best looking one.
METRIC_ORDER = ("auroc", "auc", "r", "pearson r", "spearman r", "r2", "balanced accuracy", "mae")


@dataclass(frozen=True)
class Absent:
    """Something the report could have shown; the sentence says why it does not."""

    sentence: str


@dataclass(frozen=True)
class Probe:
    """One cross-validated score with its 95 % interval; NaN where unknown.

    ``gain`` is the score minus that of the same features before training, on the same resampled
    participants; NaN where it was not measured.
    """

    column: str
    features: str
    probe: str
    metric: str
    score: float
    low: float
    high: float
    n: int
    kind: str = ""
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan

    @property
    def role(self) -> Role:
        """Which arm of the comparison the features are."""
        name = self.features.lower()
        if "random" in name or "untrained" in name:
            return "random"
        if "volume" in name:
            return "volume"
        return "trained" if "trained" in name else "other"

    @property
    def pooling(self) -> str:
        """``token``, ``mean``, ``regions`` or empty."""
        name = self.features.lower()
        return next((word for word in ("token", "mean", "regions") if word in name), "")

    @property
    def title(self) -> str:
        """What is probed, in words."""
        return f"{self.column}: {self.metric_name}, {self.probe_name}"

    @property
    def metric_name(self) -> str:
        """The metric as it is usually written."""
        return METRIC_NAMES.get(self._metric, self.metric)

    @property
    def probe_name(self) -> str:
        """The probe in words."""
        return PROBE_NAMES.get(self.probe.lower(), self.probe)

    @property
    def scale(self) -> str:
        """What the axis of its scores says: metric, unit and direction."""
        unit = UNITS.get(self.column, "") if self._metric in {"mae", "rmse"} else ""
        words = [self.metric_name, unit, "less is better" if self.lower_is_better else ""]
        return ", ".join(word for word in words if word)

    @property
    def confound(self) -> bool:
        """Whether the column is one that features should not know."""
        return self.column.lower() in CONFOUNDS

    @property
    def _metric(self) -> str:
        return self.metric.lower().replace("_", " ")

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is an error."""
        return self._metric in LOWER_IS_BETTER

    @property
    def chance(self) -> float | None:
        """The score of knowing nothing, where it is known."""
        classes = _CLASSES.fullmatch(self.kind)
        if self._metric == "balanced accuracy" and classes:
            return 1 / int(classes[1])
        return CHANCE.get(self._metric)


@dataclass(frozen=True)
class Embeddings:
    """Features of scans with what is known of their participants.

    Attributes:
        table: one row per scan, without the features.
        features: [scans, width].
        kind: ``token`` (the summariser's) or ``mean`` (of the patch tokens).
        left_out: scans whose features are not finite.
    """

    table: pd.DataFrame
    features: np.ndarray
    kind: str
    left_out: int


@dataclass(frozen=True)
class CohortFacts:
    """A prepared cohort without its voxels."""

    name: str
    hash: str
    synthetic: bool
    participants: pd.DataFrame
    quarantine: pd.DataFrame
    contract: dict[str, Any]


def read_probes(path: Path | None) -> list[Probe] | Absent:
    """The rows of a probe table."""
    if path is None:
        return Absent(
            "No probe table was given, so nothing is said about what the features know. "
            "Make one with: volta3d probe RUN/encoder COHORT --out probes.json"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return Absent(f"The probe table {path.name} is not readable as JSON.")
    rows = content.get("rows", []) if isinstance(content, dict) else content
    found = [_probe(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    whole = [probe for probe in found if probe is not None]
    return whole or Absent(f"The probe table {path.name} holds no scores.")


def _probe(row: dict[str, Any]) -> Probe | None:
    score = _float(row.get("score"))
    if math.isnan(score) or not row.get("column"):
        return None
    names = ("column", "features", "probe", "metric", "kind")
    text = {k: str(row.get(k) or "") for k in names}
    count = _float(row.get("n"))
    return Probe(
        **text,
        score=score,
        low=_float(row.get("low")),
        high=_float(row.get("high")),
        n=0 if math.isnan(count) else int(count),
        gain=_float(row.get("gain")),
        gain_low=_float(row.get("gain_low")),
        gain_high=_float(row.get("gain_high")),
    )


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        return math.nan
    return float(value)


def read_embeddings(path: Path | None) -> Embeddings | Absent:
    """The features of an embedding table, the summariser's token before the mean of patches."""
    if path is None:
        return Absent(
            "No embedding table was given. "
            "Make one with: volta3d embed RUN/encoder COHORT --out features.parquet"
        )
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow's own types; whatever they are, the report goes on
        return Absent(f"The embedding table {path.name} is not readable: {type(error).__name__}.")
    for kind in ("token", "mean"):
        columns = [c for c in table.columns if str(c).startswith(f"{kind}_")]
        if columns:
            features = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
            whole = np.isfinite(features).all(axis=1)
            if whole.sum() < 3:
                return Absent(f"The embedding table {path.name} holds fewer than three scans.")
            others = [
                c for c in table.columns if not str(c).startswith(("token_", "mean_", "regions_"))
            ]
            kept = table.loc[whole, others].reset_index(drop=True)
            return Embeddings(kept, features[whole], kind, int((~whole).sum()))
    return Absent(f"The embedding table {path.name} holds no columns token_* or mean_*.")


def read_cohort(path: Path | None) -> CohortFacts | Absent:
    """A cohort's tables and contract."""
    if path is None:
        return Absent(
            "No cohort was given, so its quarantine and findings are not shown. "
            "Name it with: volta3d report RUN --cohort COHORT --out REPORT"
        )
    from volta3d.cohort.store import Cohort  # zarr and torch load slowly and only here

    try:
        cohort = Cohort.open(path)
    except VoltaError as error:
        return Absent(f"The cohort {path.resolve().name} cannot be shown: {error.what}.")
    return CohortFacts(
        name=path.resolve().name,
        hash=cohort.hash(),
        synthetic=cohort.contract.synthetic,
        participants=cohort.participants,
        quarantine=cohort.quarantine,
        contract=cohort.contract.content(),
    )
