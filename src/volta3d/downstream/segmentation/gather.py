"""All jobs of a segmentation done: derivatives described, one model kept for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from volta3d.arms.segmenter import SegmenterArm
from volta3d.artefacts import FOLD_WEIGHTS, LOG, PREDICTIONS, model_folder
from volta3d.config import SegmentConfig
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.labelmap_files import describe
from volta3d.downstream.segmentation.model import save_segment_model
from volta3d.grid.gather import Record, complete, records_of, write_metrics
from volta3d.grid.job import Job
from volta3d.ledger import Ledger
from volta3d.pretrain.log import read_metrics


def gather(
    run: Path,
    ledger: Ledger,
    folds: int,
    scans: LabelledScans,
    arms: Sequence[SegmenterArm],
    config: SegmentConfig,
) -> None:
    """Write the tables beside the label maps, each arm's metrics.jsonl and its model.

    The model kept is that of the fold that did best on the scans its epoch was chosen on (the
    first fold where none was), of those fitted to the most: no fold's test scans choose it, unless
    ``selection`` is ``paper``.
    """
    records = records_of(ledger, [arm.name for arm in arms])
    settings = {"test_flips": config.test_flips, "largest_component": config.largest_component}
    whole, _ = complete(records, folds)
    for name, group in groupby(whole, key=lambda r: Job.of(r).predictions):
        describe(
            run / PREDICTIONS / name,
            scans.structures,
            [row for record in group for row in record["predicted"]],
            name=f"volta3d segmentation, arm {name}",
            settings=settings,
        )
    for arm in arms:
        own = [r for r in records if r["arm"] == arm.name]
        lines = [
            {**line, "seed": r["seed"], "fraction": Job.of(r).fraction, "fold": r["fold"]}
            for r in own
            for line in read_metrics(Job.of(r).folder(run) / LOG)
        ]
        write_metrics(run, arm.name, lines)
        most = max(Job.of(r).fraction for r in own)
        largest = [r for r in own if Job.of(r).fraction == most]
        best = max(largest, key=lambda r: (r["judged_dice"] or 0.0, -r["fold"]))
        _keep(run, arm, best, scans, config)


def _keep(
    run: Path, arm: SegmenterArm, record: Record, scans: LabelledScans, config: SegmentConfig
) -> None:
    participants = scans.cohort.participants
    datasets = sorted({str(participants["dataset"].iloc[row]) for row in scans.rows})
    trained_on: Mapping[str, Any] = {
        "scans": record["scans"]["train"],
        "subjects": record["subjects"],
        "datasets": ", ".join(datasets),
        "synthetic": scans.cohort.contract.synthetic,
        "cohort_hash": scans.cohort.hash(),
    }
    about = {
        "crop": config.crops.size,
        "overlap": config.overlap,
        "arm": {**arm.spec.content(), "tune": arm.tune},
        "seed": record["seed"],
        "fold": record["fold"],
        "epoch": record["epoch"],
        "selection": config.selection,
        "inner_dice": record["judged_dice"],
        "loaded": record["loaded"],
        "bf16": record["bf16"],
        "trained_on": trained_on,
        "settings": config.science(),
    }
    save_segment_model(
        model_folder(run, arm.name),
        load_file(Job.of(record).folder(run) / FOLD_WEIGHTS),
        architecture=arm.architecture,
        structures=scans.structures,
        contract=scans.cohort.contract,
        about=about,
    )
