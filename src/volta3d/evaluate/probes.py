"""``probe``: what simple models read from an encoder's features, against the baselines that matter.

Every target is predicted from seven sets of numbers on the same folds of whole subjects: the
trained encoder's token, the mean of its patch tokens and their means over 3³ regions, the same
three of the encoder before training, and head and brain volume alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from volta3d.cohort.store import Cohort
from volta3d.cohort.subjects import subjects_of
from volta3d.encoder.embed import Progress, embed, features_of
from volta3d.encoder.load import load_encoder, random_encoder
from volta3d.encoder.scale import Mismatch
from volta3d.errors import UsageError
from volta3d.evaluate.predictors import PROBES, Predictor
from volta3d.files import write_json
from volta3d.statistics.intervals import interval, resample_subjects
from volta3d.statistics.scores import (
    Predictions,
    Score,
    averaged,
    balanced_accuracy,
    correlation,
    mean_absolute_error,
    r_squared,
    within_fold_auroc,
)
from volta3d.statistics.subject_folds import FOLDS, REPEATS, subject_folds
from volta3d.statistics.targets import MIN_SCANS, Target
from volta3d.statistics.weighted import Drawn

RESAMPLES = 2000
DEFAULT_TARGETS = ("sex", "age", "diagnosis", "site", "dataset")
ORIGINS = ("site", "dataset")  # what features should rather not tell
VOLUMES = ["foreground_mm3", "brain_mm3"]
VOLUME_ONLY = "volume only"
POOLINGS = ("token", "mean", "regions")
CATEGORICAL: dict[str, Score] = {
    "AUROC": within_fold_auroc,
    "balanced accuracy": balanced_accuracy,
}
CONTINUOUS: dict[str, Score] = {"r": correlation, "R2": r_squared, "MAE": mean_absolute_error}


@dataclass(frozen=True)
class Question:
    """One target on the scans where it is known.

    Args:
        column: of participants.tsv.
        known: bool [scans].
        values: [n] numbers, or indices of classes.
        groups: [n] the subject of each scan.
        classes: how many; 0 for a number.
    """

    column: str
    known: np.ndarray
    values: np.ndarray
    groups: np.ndarray
    classes: int

    @property
    def kind(self) -> str:
        """``number``, or how many classes."""
        return f"{self.classes} classes" if self.classes else "number"

    @property
    def scores(self) -> dict[str, Score]:
        """The scores of this kind of target."""
        return CATEGORICAL if self.classes else CONTINUOUS


def probe(
    encoder: Path | str,
    cohort: Path | str,
    targets: Sequence[str] | None = None,
    out: Path | str | None = None,
    *,
    seed: int = 0,
    batch_size: int = 4,
    device: str = "auto",
    mismatch: Mismatch = "refuse",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Cross-validated probes with 95 % intervals over subjects.

    Five folds of whole subjects, three times; the linear probe's penalty is chosen inside the
    training part. The untrained encoder is the very network the run started from.

    Args:
        encoder: a folder that ``pretrain`` wrote.
        cohort: a cohort with the encoder's preparation.
        targets: columns of participants.tsv; None takes sex, age, diagnosis, site and data set
            where known and not all the same.
        out: also write the rows as JSON.
        seed: of the folds and the bootstrap.
        batch_size: scans at once.
        device: auto, cpu or cuda.
        mismatch: what happens to voxels of another scale, see ``embed``.
        progress: called with (done, total) scans embedded.

    Returns:
        One row per (column, features, probe, metric): column, kind, features, probe, metric,
        score, low, high, n (scans), subjects, and for trained features ``gain``, ``gain_low`` and
        ``gain_high``: the score minus that of the same features before training, on the same
        resampled subjects. ``attrs["scale_text"]`` says at which scale the scans were read.

    Raises:
        EncoderError, CohortError: damaged, or they do not fit together.
        UsageError: an unknown column, or one with too little in it.
    """
    trained = load_encoder(encoder)
    questions = _questions(Cohort.open(Path(cohort)).participants, targets)
    arms: dict[str, np.ndarray] = {}
    table = pd.DataFrame()
    for name, network in (("trained", trained), ("untrained", random_encoder(trained))):
        table = embed(
            network,
            cohort,
            batch_size=batch_size,
            device=device,
            kinds=POOLINGS,
            mismatch=mismatch,
            progress=progress,
        )
        for pooling in POOLINGS:
            arms[f"{name} {pooling}"] = features_of(table, pooling).astype(np.float64)
    volumes = table[VOLUMES].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    known = (np.isfinite(volumes) & (volumes > 0)).all(axis=0)
    if known.any():  # a brain volume needs a parcellation, which few cohorts have
        arms[VOLUME_ONLY] = np.log(volumes[:, known])
    rows = [row for question in questions for row in answer(question, arms, seed=seed)]
    if out is not None:
        write_json(Path(out), [_plain(row) for row in rows])
    result = pd.DataFrame(rows)
    result.attrs["scale_text"] = table.attrs["volta3d"]["scale_text"]
    return result


def origin_warnings(table: pd.DataFrame) -> list[str]:
    """What to know where the trained features tell where a scan comes from.

    Whatever differs between sites or data sets, diagnosis for one, is then read with it.

    Args:
        table: what :func:`probe` returned.
    """
    found = []
    for column in ORIGINS:
        own = table[(table["column"] == column) & (table["metric"] == "AUROC")]
        own = own[own["features"].str.startswith("trained") & (own["low"] > 0.5)]
        if len(own):
            best = own.sort_values("score").iloc[-1]
            found.append(
                f"The features tell the {'data set' if column == 'dataset' else column} of a scan: "
                f"AUROC {best['score']:.2f} ({best['low']:.2f} to {best['high']:.2f}), "
                f"{best['features'].removeprefix('trained ')}, {best['probe']}. What differs "
                "between them in numbers is read along with it: compare within each"
            )
    return found


def answer(
    question: Question, arms: Mapping[str, np.ndarray], *, seed: int = 0
) -> list[dict[str, object]]:
    """Every arm, probe and metric for one question; the same folds and resamples for all.

    Args:
        question: what is predicted.
        arms: named features [scans, d].
        seed: of the folds and the bootstrap.
    """
    weights = resample_subjects(question.groups, RESAMPLES, seed)
    rows: list[dict[str, object]] = []
    for probe_name, predictor in PROBES.items():
        predicted = {
            name: out_of_fold(question, features[question.known], predictor, seed=seed)
            for name, features in arms.items()
        }
        for metric, score in question.scores.items():
            for name, repeats in predicted.items():
                drawn = averaged(score, repeats)
                point, low, high = interval(drawn, weights)
                row: dict[str, object] = {
                    "column": question.column,
                    "kind": question.kind,
                    "features": name,
                    "probe": probe_name,
                    "metric": metric,
                    "score": point,
                    "low": low,
                    "high": high,
                    "n": len(question.values),
                    "subjects": len(np.unique(question.groups)),
                }
                if f"un{name}" in predicted:
                    before = averaged(score, predicted[f"un{name}"])
                    gain = interval(_difference(drawn, before), weights)
                    row |= dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
                rows.append(row)
    return rows


def out_of_fold(
    question: Question, features: np.ndarray, predictor: Predictor, *, seed: int
) -> list[Predictions]:
    """Predictions for every scan by a model that never saw its subject, once per repeat.

    Args:
        question: what is predicted.
        features: [n, d].
        predictor: fits on one part and predicts the other.
        seed: of the folds.
    """
    values, groups = question.values, question.groups
    repeats = []
    for repeat in range(REPEATS):
        folds = subject_folds(
            values, groups, folds=FOLDS, seed=seed + repeat, categorical=bool(question.classes)
        )
        scores = np.empty((len(values), max(question.classes, 1)))
        baseline = np.empty(len(values))
        for fold in np.unique(folds):
            test = folds == fold
            scores[test] = predictor(
                features[~test], values[~test], groups[~test], features[test], question.classes
            )
            baseline[test] = values[~test].mean()
        repeats.append(Predictions(values, scores, folds, baseline))
    return repeats


def _difference(after: Drawn, before: Drawn) -> Drawn:
    """Paired: both on the same resampled subjects."""
    return lambda weights: after(weights) - before(weights)


def _questions(participants: pd.DataFrame, targets: Sequence[str] | None) -> list[Question]:
    """The targets asked for, or those of the usual ones that can be asked.

    Raises:
        UsageError: a column is missing or holds too little; or none can be asked.
    """
    found = []
    subjects = np.array(subjects_of(participants)[0])
    for column in targets if targets is not None else DEFAULT_TARGETS:
        if column not in participants:
            if targets is None:
                continue
            raise UsageError(
                "No such column in participants.tsv",
                where=column,
                fix=f"Choose among {', '.join(map(str, participants.columns))}",
            )
        read = Target.read(participants[column].to_numpy(object))
        groups = subjects[read.known]
        if read.usable and len(np.unique(groups)) >= FOLDS:
            found.append(Question(column, read.known, read.values, groups, len(read.classes)))
        elif targets is not None:
            raise UsageError(
                f"Too little to predict: {len(read.values)} known values, "
                f"{len(np.unique(read.values))} different, of {len(np.unique(groups))} subjects",
                where=column,
                fix=f"A probe wants {MIN_SCANS} known values, two different, {FOLDS} subjects",
            )
    if not found:
        raise UsageError(
            f"None of {', '.join(DEFAULT_TARGETS)} is known for this cohort",
            fix="Fill the column in the source's participants.tsv and prepare again, or name "
            "another with --target",
        )
    return found


def _plain(row: dict[str, object]) -> dict[str, object]:
    """NaN as null: JSON has no NaN."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
