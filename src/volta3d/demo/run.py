"""``demo``: every stage in its order, each in its own folder, done once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from volta3d.config import PrepareConfig, load_pretrain
from volta3d.demo.tasks import COLUMNS, OUTLINED, compare, outline
from volta3d.demo.text import LIMITS, probe_lines, scores, task_lines
from volta3d.encoder.embed import embed
from volta3d.evaluate.probes import probe
from volta3d.files import read_json
from volta3d.phantom import generate
from volta3d.prepare import prepare
from volta3d.pretrain.loop import pretrain
from volta3d.progress import Steps, duration
from volta3d.report import report

SIZE = 64  # prepared cube of the demo, voxels


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and learnt.

    Attributes:
        report: its index.html.
        probes: rows of the probe table.
        tasks: sex, diagnosis and hippocampus, each with what its metrics.json holds.
        seconds: wall-clock time of all stages.
        alarms: collapse alarms raised while training.
    """

    report: Path
    probes: pd.DataFrame
    tasks: Mapping[str, Mapping[str, Any]]
    seconds: float
    alarms: list[str]

    def text(self) -> str:
        """The closing words: before and after training, arms compared, volume alone beside them."""
        alarms = ", ".join(sorted(set(self.alarms))) or "none"
        return "\n".join(
            [
                "",
                *probe_lines(self.probes),
                "",
                *task_lines(self.tasks),
                "",
                *LIMITS,
                f"Alarms: {alarms}. Other features and metrics are in the report.",
                f"Done in {duration(self.seconds)}. Open {self.report}",
            ]
        )


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
    subjects: int = 120,
    epochs: int | None = None,
    workers: int = 2,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Synthetic brains to raw BIDS, cohort, encoder, embeddings, probes, tasks and report.

    Every stage is the one that real scans pass through; a stage that an earlier call finished is
    not run again.

    Args:
        out: the folder for everything.
        subjects: synthetic subjects.
        epochs: of pretraining; the demo preset's own when None.
        workers: processes for making and preparing scans.
        seed: of subjects, folds and networks.
        say: called with a line before each stage.
    """
    started = time.monotonic()
    raw, cohort, run = out / "raw", out / "cohort", out / "run"
    say("1/8 making synthetic brains (real template anatomy, invented people)")
    if not (raw / "participants.tsv").exists() or len(list(raw.glob("sub-*"))) != subjects:
        with Steps("phantom", "subjects") as steps:
            generate(raw, subjects=subjects, seed=seed, workers=workers, progress=steps)
    say("2/8 preparing the cohort")
    with Steps("prepare", "scans") as steps:
        prepare([raw], cohort, workers=workers, config=PrepareConfig(size=SIZE), progress=steps)
    with one_thread():  # the networks are so small that a second one makes them slower
        say("3/8 pretraining a small vision transformer")
        assignments = [f"seed={seed}"] + ([f"epochs={epochs}"] if epochs else [])
        config = load_pretrain("demo", assignments)
        with Steps("pretrain", "steps") as steps:
            trained = pretrain(
                [cohort], run, config, resume=(run / "config.yaml").exists(), notify=steps
            )
        say("4/8 embedding every scan")
        features = out / "features.parquet"
        embed(trained.encoder, cohort, features)
        say("5/8 probing the features, against an untrained encoder and volume alone")
        probes = out / "probes.json"
        table = probe(trained.encoder, cohort, None, probes)
        say("6/8 classifying sex and diagnosis: the encoder, from scratch, linear, volume alone")
        tasks = {c: compare(trained.encoder, cohort, c, out / c, seed=seed) for c in COLUMNS}
    say("7/8 outlining the hippocampi: UNETR from the encoder, 3D U-Net")
    tasks[OUTLINED] = outline(trained.encoder, cohort, out / OUTLINED, seed=seed)
    say("8/8 writing the report")
    runs = [run, *(out / name for name in tasks)]
    index = report(runs, out / "report", embeddings=features, probes=probes, cohort=cohort)
    seconds = time.monotonic() - started
    summary = {
        "seconds": round(seconds, 1),
        "subjects": subjects,
        "probes": read_json(probes),
        "tasks": {name: scores(metrics) for name, metrics in tasks.items()},
    }
    (out / "demo.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return DemoResult(index, table, tasks, seconds, trained.alarms)
