"""The interactive pages of a pretraining run: what its decoder rebuilt, scan by scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from volta3d.report.blocks import Viewer
from volta3d.report.figures_volumes import Reconstruction
from volta3d.report.style import number
from volta3d.report.viewer import Overlay, Picture, write_viewer

FOLDER = "viewer"
MASKED = (86, 180, 233)
NOTE = (
    "Click or drag in a slice, or move the sliders. Grey values as prepared, the same window for "
    "every picture. The loss counts masked voxels only."
)


def reconstruction_viewer(
    folder: Path, prefix: str, record: Reconstruction, *, scans: int, sides: bool
) -> Viewer:
    """A page for each of the first scans of a record.

    Args:
        folder: the report's.
        prefix: of file names.
        record: input, corrupted, rebuilt and mask.
        scans: how many at most.
        sides: whether left and right are known, see ``Mosaic.mark``.
    """
    pages = []
    for scan in range(min(len(record.input), scans)):
        mask = record.mask[scan]
        error = np.where(mask, np.abs(record.rebuilt[scan] - record.input[scan]), 0.0)
        top = float(np.percentile(error[mask], 99.5)) if mask.any() else 1.0
        name = f"{FOLDER}/{prefix}scan-{scan + 1}.html"
        write_viewer(
            folder / name,
            f"Scan {scan + 1}, epoch {record.epoch}",
            [
                Picture("Rebuilt", record.rebuilt[scan]),
                Picture("Input", record.input[scan]),
                Picture("Corrupted", record.corrupted[scan]),
            ],
            [
                Overlay(f"Error in masked voxels, up to {number(top, 2)}", error, top=top),
                Overlay("Masked voxels", mask.astype(np.uint8), {1: ("masked", MASKED)}),
            ],
            note=NOTE,
            sides=sides,
        )
        pages.append((f"Scan {scan + 1}", name))
    return Viewer(f"{prefix}viewer", "Move through the scans", pages)
