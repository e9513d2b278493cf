"""``demo``: every stage in its order, each in its own folder, done once."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from volta3d.artefacts import DEMO, FEATURES, PARTICIPANTS, PROBES, REPORT, RUN_CONFIG
from volta3d.cohort.part import draw_subjects, part_of
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig, load_pretrain
from volta3d.demo.gains import lost
from volta3d.demo.tasks import OUTLINED, compare, outline
from volta3d.demo.text import Made, how_to_open, scores, screen
from volta3d.encoder.embed import embed
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.probes import probe
from volta3d.files import read_json
from volta3d.phantom import generate
from volta3d.prepare import prepare
from volta3d.pretrain.loop import PretrainResult, pretrain
from volta3d.progress import Steps, duration
from volta3d.report import report

# Sizes stay in millimetres, in the cube as in the views, so that a large head is large in both.
PREPARE: Mapping[str, Any] = {"size": 48, "spacing": 4.0, "fit": "pad"}
PRETRAIN = (
    "views.spacing_mm=[3.85,4.15]",
    "views.global_scale=null",
    "views.local_scale=null",
)
PROBED = ("sex", "site")  # what shows at this size, and the confound that must not
SPACING = 3.0  # mm of the synthetic scans, before the scanners' own factors
SHARE = 0.6  # of the people, to pretrain on; the others have labels and are tested on
NEEDED = 500e6  # bytes that all of it takes
BEGUN = "demo-settings.json"
RUN, UNLABELLED, LABELLED = "run", "unlabelled", "labelled"


@dataclass(frozen=True)
class Budget:
    """What a demo spends.

    Attributes:
        subjects: synthetic people.
        epochs: of pretraining.
        columns: that arms are compared on.
        outlined: whether hippocampi are.
    """

    subjects: int
    epochs: int
    columns: tuple[str, ...]
    outlined: bool


FULL = Budget(144, 40, ("sex",), True)
QUICK = Budget(36, 4, ("sex",), False)
EVERY_LABEL = {"fractions": [1.0], "seeds": 1}  # a quarter of so few people would be nobody


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and learnt.

    Attributes:
        report: its index.html.
        made: the people.
        probes: rows of the probe table.
        tasks: task to what its metrics.json holds.
        seconds: wall-clock time of all stages.
        alarms: collapse alarms raised while training.
        quick: whether it was too short to learn anything.
    """

    report: Path
    made: Made
    probes: pd.DataFrame
    tasks: Mapping[str, Mapping[str, Any]]
    seconds: float
    alarms: list[str]
    quick: bool = False

    def text(self) -> str:
        """The last screen: what was made, what was learnt, what to open."""
        lines = screen(self.made, self.probes, self.tasks, self.alarms)
        if self.quick:
            lines.append("--quick shows that everything runs, not what pretraining is worth.")
        else:
            found = {name: scores(metrics) for name, metrics in self.tasks.items()}
            lines += [f"Pretraining did not win: {where}" for where in lost(found)[:2]]
        return "\n".join([*lines, *how_to_open(self.report), f"Done in {duration(self.seconds)}."])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread; on a busy machine threads that wait for each other take many times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def demo(
    out: Path,
    *,
    subjects: int | None = None,
    epochs: int | None = None,
    quick: bool = False,
    workers: int = 2,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Synthetic brains to raw BIDS, cohort, encoder, embeddings, probes, tasks and report.

    Every stage is the one that real scans pass through; a stage that an earlier call finished is
    not run again, and one that was stopped half-way goes on.

    Args:
        out: the folder for everything.
        subjects: synthetic people; the budget's own when None.
        epochs: of pretraining; the budget's own when None.
        quick: a minute and a half instead of six, too short to learn much.
        workers: processes for making and preparing scans.
        seed: of subjects, folds and networks.
        say: called with a line before each stage.

    Raises:
        UsageError: the folder holds a demo of other settings.
        VoltaError: too little room on the disk.
    """
    started = time.monotonic()
    own = QUICK if quick else FULL
    budget = Budget(subjects or own.subjects, epochs or own.epochs, own.columns, own.outlined)
    _begin(out, {**asdict(budget), "columns": list(budget.columns), "seed": seed})
    stage = _stages(7 + budget.outlined, say)
    made = _people(out, budget, seed, workers, stage)
    with one_thread():  # the networks are so small that a second one makes them slower
        trained, table = _learn(out, budget, seed, stage)
        tasks = _compare(out, trained.encoder, budget, seed, quick, stage)
    stage("writing the report")
    runs = [out / RUN, *(out / name for name in tasks)]
    given = {"embeddings": out / FEATURES, "probes": out / PROBES, "cohort": out / LABELLED}
    index = report(runs, out / REPORT, **given)
    seconds = time.monotonic() - started
    summary = {
        "seconds": round(seconds, 1),
        **asdict(made),
        "probes": read_json(out / PROBES),
        "tasks": {name: scores(metrics) for name, metrics in tasks.items()},
    }
    (out / DEMO).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return DemoResult(index, made, table, tasks, seconds, trained.alarms, quick)


def _learn(
    out: Path, budget: Budget, seed: int, stage: Callable[[str], None]
) -> tuple[PretrainResult, pd.DataFrame]:
    """Pretrain on the people without labels; embed and probe the others."""
    stage("pretraining a small vision transformer, without labels")
    assignments = [*PRETRAIN, f"seed={seed}", f"epochs={budget.epochs}"]
    run, labelled = out / RUN, out / LABELLED
    with Steps("pretrain", "steps") as steps:
        trained = pretrain(
            [out / UNLABELLED],
            run,
            load_pretrain("demo", assignments),
            resume=(run / RUN_CONFIG).exists(),
            notify=steps,
        )
    stage("embedding every scan of the other people")
    embed(trained.encoder, labelled, out / FEATURES)
    stage("probing the features, against an untrained encoder and volume alone")
    return trained, probe(trained.encoder, labelled, list(PROBED), out / PROBES)


def _compare(
    out: Path,
    encoder: Path,
    budget: Budget,
    seed: int,
    quick: bool,
    stage: Callable[[str], None],
) -> dict[str, Mapping[str, Any]]:
    """Every task's arms on the people whom pretraining did not see."""
    stage(f"classifying {' and '.join(budget.columns)} with few labels, five arms")
    labels = EVERY_LABEL if quick else None
    tasks: dict[str, Mapping[str, Any]] = {
        column: compare(encoder, out / LABELLED, column, out / column, seed=seed, settings=labels)
        for column in budget.columns
    }
    if budget.outlined:
        stage("outlining the hippocampi: UNETR pretrained, UNETR from scratch, 3D U-Net")
        tasks[OUTLINED] = outline(encoder, out / LABELLED, out / OUTLINED, seed=seed)
    return tasks


def _stages(count: int, say: Callable[[str], None]) -> Callable[[str], None]:
    """Says each stage with its number."""
    number = 0

    def stage(what: str) -> None:
        nonlocal number
        number += 1
        say(f"{number}/{count} {what}")

    return stage


def _begin(out: Path, settings: Mapping[str, Any]) -> None:
    """Check the folder and the disk before anything is made, and note what was asked for."""
    file = out / BEGUN
    if file.is_file() and read_json(file) != settings:
        raise UsageError(
            "The folder holds a demo with other settings",
            where=out,
            fix="Choose another --out, or delete the folder",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
        if free >= NEEDED or file.is_file():
            file.write_text(json.dumps(settings) + "\n", encoding="utf-8")
            return
    except OSError as error:
        raise VoltaError(
            f"The demo's folder cannot be written: {error.strerror}", where=out, fix="Choose --out"
        ) from error
    raise VoltaError(
        f"The disk has {free / 1e6:.0f} MB free, the demo takes {NEEDED / 1e6:.0f} MB",
        where=out,
        fix="Free some space, or choose another disk with --out",
    )


def _people(
    out: Path, budget: Budget, seed: int, workers: int, stage: Callable[[str], None]
) -> Made:
    """Raw scans, the cohort, and its two parts that share nobody."""
    raw, cohort = out / "raw", out / "cohort"
    stage(f"making {budget.subjects} synthetic brains (invented people)")
    if not (raw / PARTICIPANTS).exists() or len(list(raw.glob("sub-*"))) != budget.subjects:
        with Steps("phantom", "subjects") as steps:
            generate(
                raw,
                subjects=budget.subjects,
                seed=seed,
                spacing=SPACING,
                workers=workers,
                progress=steps,
            )
    stage("preparing the cohort, and setting people aside whom pretraining will not see")
    with Steps("prepare", "scans") as steps:
        prepare([raw], cohort, workers=workers, config=PrepareConfig(**PREPARE), progress=steps)
    whole = Cohort.open(cohort)
    counts = []
    for name, share in ((UNLABELLED, (0.0, SHARE)), (LABELLED, (SHARE, 1.0))):
        people = draw_subjects(whole, share, seed)
        counts.append(len(people))
        if not (out / name).is_dir():
            part_of(whole, out / name, people)
    return Made(sum(counts), *counts)
