"""``segment``: arms compared on structures of one cohort, as one grid of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from volta3d import __version__
from volta3d.cohort.store import Cohort
from volta3d.config import SegmentConfig, parse_yaml, read_yaml
from volta3d.downstream.arms import SAW, Arm, changed_arms, parse_arms
from volta3d.downstream.segmentation.gather import gather
from volta3d.downstream.segmentation.job import Job, Surgeon
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.reference import References
from volta3d.downstream.segmentation.sides import check_flips
from volta3d.downstream.segmentation.starts import HOWS, WORDS, Starts
from volta3d.encoder.embed import _device
from volta3d.errors import CheckpointError, UsageError
from volta3d.files import require_writable, write_text
from volta3d.ledger import Ledger
from volta3d.pretrain.precision import uses_bf16
from volta3d.statistics.folds import hold_out, k_fold
from volta3d.statistics.splits import Splits, read_splits

Progress = Callable[[int, int, str], None]
CONFIG, FOLDS, REFUSED = "config.yaml", "folds.json", "refused.tsv"
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
    """

    run: Path
    structures: tuple[str, ...]
    scans: int
    subjects: int
    refused: tuple[dict[str, str], ...]
    left: int
    models: dict[str, Path]


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
            untrained) or ``scratch:PRESET``, ``unet``; ``full:``, ``staged:`` or ``frozen:``
            before an encoder says how it is tuned.
        out: the run folder: config.yaml, folds.json, arms/, reference/, predictions/.
        config: preset ``paper`` when None.
        folds: of a cross-validation; 5 when neither this nor ``holdout`` is given.
        holdout: the share of the subjects set aside instead, .2 in the paper.
        resume: go on in a run folder; arms may be added.
        progress: called with (epochs done, of how many, what is being done).

    Raises:
        UsageError: arms, labels or settings that cannot work; nothing is written then.
        EncoderError, CohortError: damaged, or they do not fit together.
        CheckpointError: resumed with other settings or scans.
        Diverged: a loss that is not finite.
    """
    config, run = config or SegmentConfig(), Path(out)
    if run.exists() and not run.is_dir():
        raise UsageError("The output is a file, not a folder", where=run, fix="Rename --out")
    if (run / CONFIG).is_file() and not resume:
        raise UsageError(
            "A run is there already", where=run, fix="Add --resume, or choose another --out"
        )
    chosen = parse_arms(arms, words=WORDS, hows=HOWS)
    opened, device = Cohort.open(Path(cohort)), _device(config.device)
    scans = LabelledScans.open(
        opened, config.labels, config.side_ratio, device, absent=config.absent == "allow"
    )
    check_flips(scans, config)
    starts = Starts(chosen, config, opened.contract, len(scans.structures) + 1)
    splits = make_splits(scans, config, folds=folds, holdout=holdout)
    references = References(scans, run)
    references.check()
    _describe(run, chosen, scans, starts, splits, config)
    references.write([i for i, s in enumerate(scans.subjects) if splits.fold[s] >= 0])
    bf16 = uses_bf16(config.precision, device)
    surgeon = Surgeon(scans, splits, starts, references, config, run, bf16=bf16)
    grid = [
        Job(arm, seed, fold)
        for arm in chosen
        for seed in range(config.seeds)
        for fold in range(splits.folds)
    ]
    ledger = Ledger(run / "jobs")
    _work(grid, surgeon, ledger, config.epochs, progress)
    left = ledger.left([job.id for job in grid])
    models = {arm.name: run / "arms" / arm.name / "model" for arm in chosen}
    if not left:
        gather(run, grid, ledger, scans, starts, config)
    return SegmentResult(
        run=run,
        structures=tuple(s.name for s in scans.structures),
        scans=len(scans),
        subjects=len(set(scans.subjects)),
        refused=tuple(scans.refused),
        left=len(left),
        models=models,
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


def _work(
    grid: Sequence[Job],
    surgeon: Surgeon,
    ledger: Ledger,
    epochs: int,
    progress: Progress | None,
) -> None:
    """Do every job that nobody does or has done."""
    for number, job in enumerate(grid):

        def notify(done: int, text: str, number: int = number, name: str = job.id) -> None:
            if progress is not None:
                progress(epochs * number + done, epochs * len(grid), f"{name} {text}".rstrip())

        with ledger.claim(job.id) as mine:
            if mine:
                ledger.finish(job.id, surgeon.do(job, notify))
                surgeon.clean(job)
        notify(epochs, "")


def _describe(
    run: Path,
    arms: Sequence[Arm],
    scans: LabelledScans,
    starts: Starts,
    splits: Splits,
    config: SegmentConfig,
) -> None:
    """Write config.yaml, folds.json and refused.tsv, or check that they are those of this call."""
    require_writable(run)
    declared = {
        arm.name: {**starts.declared(arm), SAW: starts.saw(arm, scans.cohort)} for arm in arms
    }
    content: dict[str, Any] = {
        "command": "segment",
        "kind": "segmentation",
        "software": f"volta3d {__version__}",
        "labels": [s.content() for s in scans.structures],
        "cohort": {"scans": len(scans), "refused": len(scans.refused), **scans.identity()},
        "synthetic": scans.cohort.contract.synthetic,
        "split": {"folds": splits.folds} if splits.folds > 1 else {"holdout": _tested(splits)},
        "folds_hash": splits.hash,
        "selection": SELECTION[config.selection],
        "arms": declared,
        "settings": config.content(),
    }
    if (run / CONFIG).is_file():
        before = parse_yaml(read_yaml(run / CONFIG), where=run / CONFIG)
        _same(run, before, content)
        content["arms"] = {**before["arms"], **declared}
        if read_splits(run / FOLDS).content() != splits.content():
            raise CheckpointError(
                "The folds of the run folder are not those of this call",
                where=run / FOLDS,
                fix="Choose another --out",
            )
    splits.write(run / FOLDS)
    columns = ("scan_id", "code", "what", "how_to_fix")
    rows = ["\t".join(columns)] + ["\t".join(r[c] for c in columns) for r in scans.refused]
    write_text(run / REFUSED, "\n".join(rows) + "\n")
    write_text(run / CONFIG, yaml.safe_dump(content, sort_keys=False))


def _tested(splits: Splits) -> float:
    return round(sum(f >= 0 for f in splits.fold.values()) / len(splits.fold), 4)


def _same(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with another experiment, saying what differs.

    Raises:
        CheckpointError: it does.
    """
    keys = ("command", "labels", "cohort", "split", "folds_hash")
    differs = [f"{k}: {before.get(k)} -> {now[k]}" for k in keys if before.get(k) != now[k]]
    # a setting that did not exist yet was what it is by default
    stated = _filled(before.get("settings", {}), SegmentConfig().content())
    wanted = now["settings"]
    science = SegmentConfig(**wanted).science()
    differs += [
        f"{k}: {stated.get(k)} -> {wanted[k]}" for k in science if stated.get(k) != wanted[k]
    ]
    differs += changed_arms(before.get("arms", {}), now["arms"])
    if differs:
        raise CheckpointError(
            f"The run folder holds another experiment (there -> here): {'; '.join(differs)[:600]}",
            where=run,
            fix="Choose another --out, or repeat the settings it was started with",
        )


def _filled(stated: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Settings with the defaults of those that are not stated, also within a group of them."""
    groups = {
        name: {**value, **stated[name]}
        for name, value in defaults.items()
        if isinstance(value, dict) and isinstance(stated.get(name), dict)
    }
    return {**defaults, **stated, **groups}
