"""``classify``: arms compared on one column by cross-validation, as one grid of small jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig
from volta3d.downstream.classification.contestants import resolve, unused_volumes
from volta3d.downstream.classification.folder import CONFIG, describe, gather
from volta3d.downstream.classification.labels import Labelled, read_labels
from volta3d.downstream.classification.trial import Trial, Worker
from volta3d.encoder.embed import _device
from volta3d.errors import UsageError
from volta3d.ledger import Ledger
from volta3d.pretrain.precision import uses_bf16
from volta3d.statistics.folds import k_fold
from volta3d.statistics.splits import FINAL, Splits

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ClassifyResult:
    """What ``classify`` made.

    Attributes:
        run: its folder.
        kind: ``classification`` or ``regression``.
        labels: the classes, the positive one last.
        scans, subjects: how many have a label.
        dropped: scans left out: ``scan_id``, ``reason``, ``what``.
        findings: what was noticed.
        left: jobs that other processes are still doing.
        models: arm to its fitted model.
    """

    run: Path
    kind: str
    labels: tuple[str, ...]
    scans: int
    subjects: int
    dropped: tuple[dict[str, str], ...]
    findings: tuple[str, ...]
    left: int
    models: dict[str, Path]


def classify(
    cohort: Path | str,
    target: str,
    arms: Sequence[str],
    out: Path | str,
    config: ClassifyConfig | None = None,
    *,
    labels: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> ClassifyResult:
    """Cross-validate arms on a column; a job each for arm, seed, fraction and fold (METHOD 7).

    Any number of processes may work in one run folder at once, the later ones with ``resume``; one
    that is killed loses the jobs it was doing and nothing else.

    Args:
        cohort: a prepared cohort.
        target: a column of participants.tsv, or of ``labels``.
        arms: each ``NAME=SPEC``: an encoder folder, ``scratch``, ``scratch:PRESET``, ``swin``,
            ``linear:ENCODER``, ``volume``; ``frozen:``, ``last:`` or ``full:`` before an encoder
            says how it is tuned.
        out: the run folder: config.yaml, folds.json, arms/, predictions.parquet.
        config: preset ``paper`` when None.
        labels: a table of one's own with the column.
        resume: go on in a run folder; arms, fractions and seeds may be added.
        progress: called with (epochs done, of how many, what is being done).

    Raises:
        UsageError: arms, column or settings that cannot work; nothing is written then.
        EncoderError, CohortError: damaged, or they do not fit together.
        CheckpointError: resumed with other settings, scans or arms.
    """
    config = config or ClassifyConfig()
    run, opened = Path(out), Cohort.open(Path(cohort))
    table = Path(labels) if labels is not None else None
    labelled = read_labels(opened, target, config, table)
    contestants = resolve(arms, opened, config, labelled.rows)
    unused = unused_volumes(contestants, opened, labelled.rows)
    labelled = replace(labelled, findings=(*labelled.findings, *unused))
    splits = make_splits(labelled, opened, config)
    grid = trials([c.name for c in contestants], config)
    device = _device(config.device)
    started = (run / CONFIG).is_file()
    if run.exists() and not run.is_dir():
        raise UsageError("The output is a file, not a folder", where=run, fix="Rename --out")
    if started and not resume:
        raise UsageError(
            "A run is there already", where=run, fix="Add --resume, or choose another --out"
        )
    splits = describe(run, contestants, labelled, opened, splits, config)
    worker = Worker(
        opened,
        labelled,
        splits,
        {c.name: c for c in contestants},
        config,
        run,
        device=device,
        bf16=uses_bf16(config.precision, device),
    )
    ledger = Ledger(run / "jobs")
    _work(grid, worker, ledger, progress)
    left = ledger.left([t.job for t in grid])
    if not left:
        gather(run, ledger, labelled, splits, opened)
    return ClassifyResult(
        run=run,
        kind=labelled.kind,
        labels=labelled.labels,
        scans=len(labelled.rows),
        subjects=len(set(labelled.subjects)),
        dropped=labelled.dropped,
        findings=labelled.findings,
        left=len(left),
        models={c.name: run / "arms" / c.name / "model" for c in contestants},
    )


def make_splits(labelled: Labelled, cohort: Cohort, config: ClassifyConfig) -> Splits:
    """The folds of a question: a function of the labels, the number of folds and the seed."""
    return k_fold(
        labelled.by_subject(),
        folds=config.folds,
        seed=config.seed,
        categorical=labelled.categorical,
        seeds=range(config.seeds),
        about={
            "target": labelled.target,
            "kind": labelled.kind,
            "labels": list(labelled.labels),
            "cohort_hash": cohort.hash(),
            "dropped": list(labelled.dropped),
            "findings": list(labelled.findings),
        },
    )


def trials(arms: Sequence[str], config: ClassifyConfig) -> list[Trial]:
    """The grid, in the order in which it is worked off."""
    grid = [
        Trial(arm, seed, fraction, fold)
        for arm in arms
        for seed in range(config.seeds)
        for fraction in config.fractions
        for fold in range(config.folds)
    ]
    if config.final_model:
        grid += [Trial(arm, 0, 1.0, FINAL) for arm in arms]
    return grid


def _work(grid: Sequence[Trial], worker: Worker, ledger: Ledger, progress: Progress | None) -> None:
    """Do every trial that nobody does or has done."""
    epochs = worker.config.epochs
    total = epochs * len(grid)

    for number, trial in enumerate(grid):

        def notify(done: int, number: int = number, job: str = trial.job) -> None:
            if progress is not None:
                progress(epochs * number + done, total, job)

        with ledger.claim(trial.job) as mine:
            if mine:
                ledger.finish(trial.job, worker.do(trial, notify))
        notify(epochs)
