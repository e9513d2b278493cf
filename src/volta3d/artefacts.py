"""Every file and folder that volta3d leaves on disk, by name: other rooms spell none of them.

Who writes an artefact keeps its reader and writer in the room that knows its content; the names
stand here, so that a reader anywhere else finds it. docs/reference/artefacts.md shows the trees.
"""

from __future__ import annotations

from pathlib import Path

# Cohort: what prepare leaves
CONTRACT = "contract.yaml"  # written last: it seals the rest
PARTICIPANTS = "participants.tsv"  # of a cohort, and of a BIDS data set
QUARANTINE = "quarantine.tsv"
PREPARATION = "preparation.json"
VOLUMES = "volumes.zarr"
LABELS = "labels.zarr"
AFFINES = "affines.zarr"
QUALITY = "qc"  # folder: every scan in three planes
FINDINGS = "findings.tsv"  # in QUALITY

# Run folders, of pretraining, a task or an evaluation
RUN_CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
RUN_COHORT = "cohort.json"  # which cohorts and scans a run read
LOG = "metrics.jsonl"  # one record a step, an epoch, an alarm
SAVED = "saved.json"
CHECKPOINTS = "checkpoints"  # folder of folders
STATE = "state.json"  # of a checkpoint
OPTIMISER = "optimizer.safetensors"
PICTURES = "pictures"  # folder
PATCH_TOKENS = "patch-tokens.safetensors"  # in PICTURES
LOCK = ".lock"

# Encoder, and the fitted model of an arm
ENCODER = "encoder"  # folder of a run
MODEL = "model"  # folder of an arm
WEIGHTS = "model.safetensors"
MODEL_CONFIG = "config.json"
CARD = "MODEL_CARD.md"

# Task runs
FOLDS = "folds.json"
JOBS = "jobs"  # folder: a ledger
ARMS = "arms"  # folder: a folder for each arm
FOLD_WEIGHTS = "weights.safetensors"  # of one job of segmentation
SCORES = "predictions.parquet"
INNER_SCORES = "inner_predictions.parquet"
METRICS = "metrics.json"
CASES = "cases.tsv"  # a row a scan and structure of a segmentation
DROPPED = "dropped.tsv"
FIGURES = "figures"  # folder
OUTLINES = "outlines.png"  # in FIGURES
SURFACES = "surfaces.png"  # in FIGURES

# Predictions of new scans
PREDICTIONS = "predictions"  # folder: label maps of the test folds
PREDICTED = "predictions.tsv"
PREDICTED_ABOUT = "predictions.json"
REFUSED = "refused.tsv"
SCANS = "scans.tsv"
LABEL_VOLUMES = "volumes.tsv"

# BIDS, read and written
DESCRIPTION = "dataset_description.json"
COLUMNS = "participants.json"
LABEL_NAMES = "dseg.tsv"
DERIVATIVES = "derivatives"  # folder
README = "README"

# Report, study and demo
INDEX = "index.html"
IMAGES = "images"  # folder
VIEWER = "viewer"  # folder
STUDY = "study.yaml"
RESULTS = "RESULTS.md"
LEDGER = "ledger"  # folder
COHORTS, ENCODERS, TASKS = "cohorts", "encoders", "tasks"  # folders of a study
REPORT = "report"  # folder
FEATURES = "features.parquet"
PROBES = "probes.json"
DEMO = "demo.json"


def arm_folder(run: Path, arm: str) -> Path:
    """Where a task run keeps what concerns one arm."""
    return run / ARMS / arm


def model_folder(run: Path, arm: str) -> Path:
    """Where a task run keeps the model of an arm that is fitted on everybody."""
    return run / ARMS / arm / MODEL
