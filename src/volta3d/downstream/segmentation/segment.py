"""``segment``: arms compared on structures of one cohort, as one grid of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volta3d.arms import SEGMENTER_TUNES, SEGMENTERS
from volta3d.arms.segmenter import SegmenterArm, resolve
from volta3d.arms.spec import SAW, parse_arms
from volta3d.artefacts import JOBS, REFUSED, model_folder
from volta3d.cohort.store import Cohort
from volta3d.config import SegmentConfig
from volta3d.downstream.segmentation.fold_runner import SegmentRunner
from volta3d.downstream.segmentation.gather import gather
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.reference import References
from volta3d.downstream.segmentation.sides import check_flips
from volta3d.encoder.embed import _device
from volta3d.encoder.scale import cohort_mm
from volta3d.errors import UsageError
from volta3d.files import write_text
from volta3d.grid.job import jobs_of
from volta3d.grid.run_folder import Experiment, check_start, open_run
from volta3d.grid.work import Progress, work
from volta3d.ledger import Ledger
from volta3d.pretrain.precision import uses_bf16
from volta3d.statistics.folds import hold_out, k_fold
from volta3d.statistics.splits import Splits

SELECTION = {
    "inner": "a validation part of the training part, apart from the reported scans",
    "paper": "the reported scans themselves, as in the paper: OPTIMISTIC",
    "last": "nothing: the last epoch",
}


@dataclass(frozen=True)
class SegmentResult:
    """What ``segment`` made.

    Attributes:
        run: its folder.
        structures: their names.
        scans, subjects: how many have sound label maps.
        refused: scans left out: ``scan_id``, ``code``, ``what``, ``how_to_fix``.
        left: jobs that other processes are still doing.
        models: arm to its fitted model.
        findings: structures that an arm never began to outline, a sentence each.
    """

    run: Path
    structures: tuple[str, ...]
    scans: int
    subjects: int
    refused: tuple[dict[str, str], ...]
    left: int
    models: dict[str, Path]
    findings: tuple[str, ...] = ()


def segment(
    cohort: Path | str,
    arms: Sequence[str],
    out: Path | str,
    config: SegmentConfig | None = None,
    *,
    folds: int | None = None,
    holdout: float | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SegmentResult:
    """Train each arm on each fold and predict the fold's scans in their own space (METHOD 7).

    Any number of processes may work in one run folder at once, the later ones with ``resume``; one
    that is killed goes on from its last checkpoint.

    Args:
        cohort: prepared with label maps; ``fit=pad`` or ``none`` keeps the native millimetre.
        arms: each ``NAME=SPEC``: an encoder folder (UNETR), ``scratch`` (UNETR, the same network
            untrained) or ``scratch:PRESET``, ``unet``; ``full:``, ``last:``, ``staged:`` or
            ``frozen:`` before an encoder or ``scratch`` says how it is tuned.
        out: the run folder: config.yaml, folds.json, arms/, reference/, predictions/.
        config: preset ``paper`` when None.
        folds: of a cross-validation; 5 when neither this nor ``holdout`` is given.
        holdout: the share of the subjects set aside instead, .2 in the paper.
        resume: go on in a run folder; arms, fractions and seeds may be added.
        progress: called with (epochs done, of how many, what is being done).

    Raises:
        UsageError: arms, labels or settings that cannot work; nothing is written then.
        EncoderError, CohortError: damaged, or they do not fit together.
        CheckpointError: resumed with other settings or scans.
        Diverged: a loss that is not finite.
    """
    config, run = config or SegmentConfig(), Path(out)
    check_start(run, resume=resume)
    opened, device = Cohort.open(Path(cohort)), _device(config.device)
    parse_arms(arms, SEGMENTERS, SEGMENTER_TUNES)  # before all label maps are read
    scans = LabelledScans.open(
        opened, config.labels, config.side_ratio, device, absent=config.absent == "allow"
    )
    check_flips(scans, config)
    chosen = resolve(arms, config, opened.contract, len(scans.structures) + 1, cohort_mm(opened))
    splits = make_splits(scans, config, folds=folds, holdout=holdout)
    references = References(scans, run)
    references.check()
    splits = open_run(run, _experiment(chosen, scans, splits, config))
    _write_refused(run, scans)
    references.write([i for i, s in enumerate(scans.subjects) if splits.fold[s] >= 0])
    by_name = {arm.name: arm for arm in chosen}
    bf16 = uses_bf16(config.precision, device)
    runner = SegmentRunner(scans, splits, by_name, references, config, run, bf16=bf16)
    grid = jobs_of(
        list(by_name), seeds=config.seeds, fractions=config.fractions, folds=splits.folds
    )
    ledger = Ledger(run / JOBS)
    left = work(grid, runner, ledger, config.epochs, progress)
    if not left:
        gather(run, ledger, splits.folds, scans, chosen, config)
    records = [(job, ledger.record(job.id) or {}) for job in grid]
    findings = [f"{job.id}: {f}" for job, r in records for f in r.get("findings", ())]
    return SegmentResult(
        run=run,
        structures=tuple(s.name for s in scans.structures),
        scans=len(scans),
        subjects=len(set(scans.subjects)),
        refused=tuple(scans.refused),
        left=len(left),
        models={name: model_folder(run, name) for name in by_name},
        findings=tuple(findings),
    )


def make_splits(
    scans: LabelledScans, config: SegmentConfig, *, folds: int | None, holdout: float | None
) -> Splits:
    """Who is tested where: by subject, stratified by the volume of the structures.

    Raises:
        UsageError: both ways asked for, or more folds than subjects.
    """
    if folds is not None and holdout is not None:
        raise UsageError(
            "Folds and a hold-out exclude each other", where="--folds, --holdout", fix="Choose one"
        )
    volumes: dict[str, list[float]] = {}
    for subject, mm3 in zip(scans.subjects, scans.volume_mm3, strict=True):
        volumes.setdefault(subject, []).append(mm3)
    values = {s: sum(v) / len(v) for s, v in volumes.items()}
    about = {"structures": [s.content() for s in scans.structures], **scans.identity()}
    seeds = range(config.seeds)
    if holdout is not None:
        return hold_out(
            values,
            fraction=holdout,
            seed=config.seed,
            categorical=False,
            seeds=seeds,
            about=about,
        )
    return k_fold(
        values, folds=folds or 5, seed=config.seed, categorical=False, seeds=seeds, about=about
    )


def _experiment(
    arms: Sequence[SegmenterArm], scans: LabelledScans, splits: Splits, config: SegmentConfig
) -> Experiment:
    tested = sum(f >= 0 for f in splits.fold.values()) / len(splits.fold)
    return Experiment(
        command="segment",
        fixed={
            "labels": [s.content() for s in scans.structures],
            "cohort": {"scans": len(scans), "refused": len(scans.refused), **scans.identity()},
            "split": {"folds": splits.folds} if splits.folds > 1 else {"holdout": round(tested, 4)},
        },
        noted={
            "kind": "segmentation",
            "synthetic": scans.cohort.contract.synthetic,
            "selection": SELECTION[config.selection],
        },
        arms={arm.name: {**arm.declared(), SAW: arm.saw(scans.cohort)} for arm in arms},
        config=config,
        splits=splits,
    )


def _write_refused(run: Path, scans: LabelledScans) -> None:
    columns = ("scan_id", "code", "what", "how_to_fix")
    rows = ["\t".join(columns)] + ["\t".join(r[c] for c in columns) for r in scans.refused]
    write_text(run / REFUSED, "\n".join(rows) + "\n")
