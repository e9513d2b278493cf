"""All jobs of a segmentation done: derivatives described, one model kept for each arm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from volta3d.config import SegmentConfig
from volta3d.downstream.segmentation.job import WEIGHTS, Job
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.labelmap_files import describe
from volta3d.downstream.segmentation.model import save_segment_model
from volta3d.downstream.segmentation.starts import Starts
from volta3d.files import write_text
from volta3d.ledger import Ledger
from volta3d.pretrain.log import read_metrics


def gather(
    run: Path,
    grid: Sequence[Job],
    ledger: Ledger,
    scans: LabelledScans,
    starts: Starts,
    config: SegmentConfig,
) -> None:
    """Write the tables beside the label maps, each arm's metrics.jsonl and its model.

    The model kept is that of the fold that did best on the scans its epoch was chosen on (the
    first fold where none was): no fold's test scans choose it, unless ``selection`` is ``paper``.
    """
    records = {job.id: ledger.record(job.id) or {} for job in grid}
    for name in dict.fromkeys(job.predictions for job in grid):
        own = [records[job.id] for job in grid if job.predictions == name]
        rows = [row for record in own for row in record["predicted"]]
        settings = {"test_flips": config.test_flips, "largest_component": config.largest_component}
        describe(
            run / "predictions" / name,
            scans.structures,
            rows,
            name=f"volta3d segmentation, arm {name}",
            settings=settings,
        )
    for arm in dict.fromkeys(job.arm.name for job in grid):
        jobs = [job for job in grid if job.arm.name == arm]
        lines = [
            json.dumps({**record, "seed": job.seed, "fold": job.fold}, allow_nan=False)
            for job in jobs
            for record in read_metrics(job.folder(run) / "metrics.jsonl")
        ]
        write_text(run / "arms" / arm / "metrics.jsonl", "".join(f"{line}\n" for line in lines))
        best = max(jobs, key=lambda job: (records[job.id]["judged_dice"] or 0.0, -job.fold))
        _keep(run, best, records[best.id], scans, starts, config)


def _keep(
    run: Path,
    job: Job,
    record: dict[str, Any],
    scans: LabelledScans,
    starts: Starts,
    config: SegmentConfig,
) -> None:
    participants = scans.cohort.participants
    datasets = sorted({str(participants["dataset"].iloc[row]) for row in scans.rows})
    about = {
        "crop": config.crops.size,
        "overlap": config.overlap,
        "arm": {**job.arm.content(), "tune": starts.tune(job.arm)},
        "seed": job.seed,
        "fold": job.fold,
        "epoch": record["epoch"],
        "selection": config.selection,
        "inner_dice": record["judged_dice"],
        "loaded": record["loaded"],
        "bf16": record["bf16"],
        "trained_on": {
            "scans": record["scans"]["train"],
            "subjects": record["subjects"],
            "datasets": ", ".join(datasets),
            "synthetic": scans.cohort.contract.synthetic,
            "cohort_hash": scans.cohort.hash(),
        },
        "settings": config.science(),
    }
    save_segment_model(
        run / "arms" / job.arm.name / "model",
        load_file(job.folder(run) / WEIGHTS),
        architecture=starts.architectures[job.arm.name],
        structures=scans.structures,
        contract=scans.cohort.contract,
        about=about,
    )
