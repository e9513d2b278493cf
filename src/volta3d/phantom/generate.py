"""Synthetic subjects from a seed to a BIDS folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import torch

from volta3d.errors import UsageError, VoltaError
from volta3d.files import atomic_folder, require_writable
from volta3d.phantom.anatomy import LEFT_HIPPOCAMPUS, RIGHT_HIPPOCAMPUS, Anatomy, load_anatomy
from volta3d.phantom.bids import write_subject, write_tables
from volta3d.phantom.effects import structure_flows
from volta3d.phantom.head import make_head
from volta3d.phantom.scanner import SCANNERS, acquire, scan_grid
from volta3d.phantom.subject import Subject, draw_subject

COARSE = 3.0  # mm; from this base spacing on, the template at 2 mm is sharp enough


def generate(
    out: Path,
    *,
    subjects: int = 40,
    seed: int = 0,
    spacing: float = 2.0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a synthetic cohort as a BIDS raw folder, true labels in ``derivatives/truth``.

    Each subject is a pure function of (seed, its number, spacing): neither the number of subjects
    nor that of workers changes a voxel. The folder appears when it is complete.

    Args:
        out: the folder to create; an earlier synthetic cohort there is replaced.
        subjects: how many; multiples of 12 are balanced over sex, site and diagnosis.
        spacing: base voxel size in mm; the sites scale it by factors of their own.
        workers: threads.
        progress: called with (subjects done, subjects).

    Returns:
        ``out``.

    Raises:
        UsageError: a number out of range.
        VoltaError: ``out`` holds something else or cannot be written.
    """
    out = Path(out)
    if subjects < 1:
        raise UsageError(
            "There must be at least one subject", where=subjects, fix="Ask for 1 or more"
        )
    if workers < 1:
        raise UsageError(
            "There must be at least one worker", where=workers, fix="Ask for 1 or more"
        )
    if not 0.7 <= spacing <= 8:
        raise UsageError(
            "The spacing is out of range", where=f"{spacing} mm", fix="Use 0.7 to 8 mm"
        )
    _require_ours(out)
    require_writable(out.parent)
    anatomy = load_anatomy(2 if spacing >= COARSE else 1)
    structure_flows(anatomy)  # made once, before threads ask for it
    drawn = [draw_subject(number, seed) for number in range(1, subjects + 1)]
    volumes: list[dict[str, float]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # subjects run side by side instead
    try:
        with atomic_folder(out) as folder:
            jobs = (joblib.delayed(_make)(folder, s, anatomy, seed, spacing) for s in drawn)
            pool = joblib.Parallel(n_jobs=workers, backend="threading", return_as="generator")
            for found in pool(jobs):
                volumes.append(found)
                if progress is not None:
                    progress(len(volumes), subjects)
            arguments = {"subjects": subjects, "seed": seed, "spacing": spacing}
            write_tables(folder, drawn, volumes, arguments)
    finally:
        torch.set_num_threads(threads)
    return out


def _make(
    folder: Path, subject: Subject, anatomy: Anatomy, seed: int, spacing: float
) -> dict[str, float]:
    """Simulate and write one subject; return its true volumes in mm³."""
    scanner = SCANNERS[subject.site]
    affine, shape = scan_grid(scanner, spacing, subject, seed)
    head = make_head(anatomy, subject, seed, affine, shape)
    image = acquire(head, scanner, affine, subject, seed)
    side = head.hippocampus.numpy()
    labels = np.zeros(shape, np.uint8)
    labels[side > 0.5] = RIGHT_HIPPOCAMPUS
    labels[side < -0.5] = LEFT_HIPPOCAMPUS
    write_subject(folder, subject, scanner, image, labels, affine)
    return head.volumes


def _require_ours(out: Path) -> None:
    """Refuse to replace anything but an earlier synthetic cohort or an empty folder."""
    if not out.exists():
        return
    fix = "Name a new folder"
    if not out.is_dir():
        raise VoltaError("A file stands where the synthetic cohort should go", where=out, fix=fix)
    if not any(out.iterdir()):
        return
    try:
        description = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))
        ours = description["Synthetic"] is True and description["DatasetType"] == "raw"
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise VoltaError("The folder holds other files, which stay as they are", where=out, fix=fix)
