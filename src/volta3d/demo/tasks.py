"""What the demo asks once there is an encoder: who somebody is, and where the hippocampi lie.

Through the stages of ``volta3d classify``, ``segment`` and ``evaluate``, on people whom pretraining
did not see, with few labels. Arms and folds are those of a real comparison: the pretrained encoder
against the identical network from scratch, with the same settings and the same budget.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volta3d.artefacts import RUN_CONFIG
from volta3d.cohort.store import Cohort
from volta3d.config import load_classify, load_segment
from volta3d.downstream.classification.classify import classify
from volta3d.downstream.segmentation.segment import segment
from volta3d.evaluate.evaluate import evaluate
from volta3d.evaluate.segmentation.outlines import draw_outlines
from volta3d.phantom.anatomy import LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS
from volta3d.progress import Steps

Metrics = dict[str, Any]
Settings = dict[str, Any]

OUTLINED = "hippocampus"
FOLDS = 3  # fewer where a class has fewer subjects
HOLDOUT = 0.5  # of the labelled people: few are outlined by hand, the others are tested on
# On top of the presets `small`. Short training leaves its mark where it happened, in patch tokens,
# so they are pooled by region. A hippocampus has 50 voxels of 4 mm here: with larger crops, lower
# rates, fewer features or the two sides told apart, a UNETR still calls everything background by
# the time that these settings take.
CLASSIFY: Settings = {
    "epochs": 8,
    "pooling": "regions",
    "fractions": [0.25],  # of each fold's training part: about ten people have a label
    "seeds": 3,  # of which ten, and of what is drawn in the networks
    "final_model": False,
    "keep_weights": False,
}
SEGMENT: Settings = {
    "labels": {"hippocampus": [LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS]},
    "epochs": 30,
    "batch_size": 1,
    "lr": 0.01,
    "warmup_epochs": 0.5,
    "selection": "last",  # of so few epochs there is none to choose
    "crops.size": 32,
    "crops.foreground": 0.8,
    "unet.channels": [16, 32, 64, 128],
    "unet.strides": [2, 2, 2],
    "unetr.features": 8,
    "tune.layer_decay": 1,
}


def compare(
    encoder: Path,
    cohort: Path,
    column: str,
    run: Path,
    *,
    seed: int = 0,
    settings: Settings | None = None,
) -> Metrics:
    """Arms compared on a column by cross-validation: the pretrained encoder fine-tuned, and frozen
    under a linear model; the same network from scratch, and untrained under a linear model; volume
    alone.

    Args:
        encoder: its folder.
        cohort: the one it was prepared for.
        column: of participants.tsv.
        run: the run folder; what an interrupted call left there is gone on with.
        seed: of folds and networks.
        settings: on top of those of the demo.

    Returns:
        What metrics.json of the run holds.
    """
    arms = [f"volta={encoder}", "scratch=scratch", f"linear=linear:{encoder}"]
    arms += ["untrained=linear:scratch", "volume=volume"]
    people = Cohort.open(cohort).participants.drop_duplicates("participant_id")
    folds = min(FOLDS, int(people[column].value_counts().min()))
    own = {"seed": seed, "folds": folds, **CLASSIFY, **(settings or {})}
    with Steps(f"classify {column}", "epochs") as steps:
        classify(
            cohort,
            column,
            arms,
            run,
            load_classify("small", _assignments(own)),
            resume=(run / RUN_CONFIG).exists(),
            progress=steps,
        )
    return evaluate([run])[0]


def outline(
    encoder: Path,
    cohort: Path,
    run: Path,
    *,
    seed: int = 0,
    settings: Settings | None = None,
) -> Metrics:
    """Hippocampi outlined by a UNETR from the encoder, the same UNETR from scratch, and a 3D U-Net.

    Args:
        encoder: its folder.
        cohort: prepared with label maps.
        run: the run folder; what an interrupted call left there is gone on with.
        seed: of split, networks and crops.
        settings: on top of those of the demo.

    Returns:
        What metrics.json of the run holds; ``figures/`` of the run gets the pictures.
    """
    own = {"seed": seed, **SEGMENT, **(settings or {})}
    with Steps(f"segment {OUTLINED}", "epochs") as steps:
        segment(
            cohort,
            [f"volta={encoder}", "scratch=scratch", "unet=unet"],
            run,
            load_segment("small", _assignments(own)),
            holdout=HOLDOUT,
            resume=(run / RUN_CONFIG).exists(),
            progress=steps,
        )
    metrics = evaluate([run])[0]
    draw_outlines(run, cohort)
    return metrics


def _assignments(settings: Settings) -> Sequence[str]:
    """Settings as ``--set`` takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]
