"""``classify``: arms compared on one column by cross-validation, as one grid of small jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volta3d.arms.classifier import ClassifierArm, resolve_with_notes
from volta3d.artefacts import JOBS, model_folder
from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig
from volta3d.downstream.classification.fold_runner import ClassifyRunner
from volta3d.downstream.classification.gather import gather
from volta3d.downstream.classification.labels import Labelled, read_labels
from volta3d.encoder.embed import _device
from volta3d.grid.job import jobs_of
from volta3d.grid.run_folder import Experiment, check_start, open_run
from volta3d.grid.work import Progress, work
from volta3d.ledger import Ledger
from volta3d.pretrain.precision import uses_bf16
from volta3d.statistics.folds import k_fold
from volta3d.statistics.splits import Splits


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
            ``linear:ENCODER``, ``volume``; ``frozen:``, ``last:`` or ``full:`` before an encoder or
            ``scratch`` says how it is tuned.
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
    noted = resolve_with_notes(arms, opened, config, labelled.rows)
    notes = [note for _, notes in noted for note in notes]
    labelled = replace(labelled, findings=(*labelled.findings, *notes))
    chosen = [arm for arm, _ in noted]
    names = [arm.name for arm in chosen]
    splits = make_splits(labelled, opened, config)
    device = _device(config.device)
    check_start(run, resume=resume)
    splits = open_run(run, _experiment(chosen, labelled, opened, splits, config))
    runner = ClassifyRunner(
        opened,
        labelled,
        splits,
        {arm.name: arm for arm in chosen},
        config,
        run,
        device=device,
        bf16=uses_bf16(config.precision, device),
    )
    grid = jobs_of(
        names,
        seeds=config.seeds,
        fractions=config.fractions,
        folds=config.folds,
        final=config.final_model,
    )
    ledger = Ledger(run / JOBS)
    left = work(grid, runner, ledger, config.epochs, progress)
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
        models={name: model_folder(run, name) for name in names},
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


def _experiment(
    arms: Sequence[ClassifierArm],
    labelled: Labelled,
    cohort: Cohort,
    splits: Splits,
    config: ClassifyConfig,
) -> Experiment:
    scans = {"hash": cohort.hash(), "scans": len(cohort), "labelled": len(labelled.rows)}
    return Experiment(
        command="classify",
        fixed={
            "target": labelled.target,
            "kind": labelled.kind,
            "labels": list(labelled.labels),
            "cohort": scans,
            "labels_hash": labelled.hash,
        },
        noted={},
        arms={arm.name: arm.declared() for arm in arms},
        config=config,
        splits=splits,
    )
