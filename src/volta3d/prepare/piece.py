"""One scan, prepared and published as a folder of its own: the unit of resuming."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.cohort.arrays import LABELS, VOLUMES, create_cubes, encode
from volta3d.cohort.contract import Contract
from volta3d.files import atomic_folder, content_hash, sha256, write_json
from volta3d.prepare import intensity
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.foreground import find_foreground
from volta3d.prepare.geometry import mapping_to, plan_grid, to_ras
from volta3d.prepare.labels import brain_volume, lost_labels, read_labels
from volta3d.prepare.nifti import read_nifti
from volta3d.prepare.qc import mosaic, write_png
from volta3d.prepare.resample import resample, resample_nearest
from volta3d.prepare.scan import Scan

FACTS, PICTURE = "facts.json", "picture.png"


@dataclass(frozen=True)
class Prepared:
    """A prepared scan in memory.

    Args:
        volume: float32 [D, H, W] in the contract's value range.
        label: uint16 [D, H, W] or None.
        affine: 4x4 from voxels of the cube to world mm.
        foreground_mm3, brain_mm3: volumes measured on the native grid; brain NaN if unknown.
        findings: what was noticed.
    """

    volume: np.ndarray
    label: np.ndarray | None
    affine: np.ndarray
    foreground_mm3: float
    brain_mm3: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: the key of its piece, or why it was refused."""

    key: str = ""
    source_sha256: str = ""
    refused: Finding | None = None
    fresh: bool = False


def prepare_scan(source: Path, contract: Contract, label: Path | None = None) -> Prepared:
    """Prepare one scan in memory.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    image = read_nifti(source)
    findings = list(image.findings)
    view, affine = to_ras(image.data, image.affine)
    with np.errstate(over="ignore"):  # becomes infinite, which is mended or refused next
        data = np.ascontiguousarray(view, np.float32)
    data, mended = intensity.mend(data)
    low, high, noticed = intensity.limits(data, contract.percentiles)
    data = np.clip(data, np.float32(low), np.float32(high))
    foreground = find_foreground(data, affine)
    grid, planned = plan_grid(data.shape, affine, foreground, contract)
    findings += mended + noticed + planned
    shape = (contract.size,) * 3
    mapping = mapping_to(affine, grid)
    volume = resample(data, mapping, shape, outside=low)
    if contract.scaling == "range":
        volume = intensity.to_range(volume, low, high)
    else:
        inside = resample_nearest(
            foreground.mask.astype(np.uint8), mapping_to(foreground.affine, grid), shape
        )
        volume = intensity.to_zscore(volume, inside > 0)
    prepared, brain = None, math.nan
    if label is not None:
        labels, about = read_labels(label, affine, data.shape)
        brain = brain_volume(labels, affine)
        prepared = resample_nearest(labels, mapping, shape)
        findings += about + lost_labels(labels, prepared)
    return Prepared(volume, prepared, grid, foreground.mm3, brain, tuple(findings))


def make_piece(
    scan: Scan, contract: Contract, pieces: Path, known: Container[str] = frozenset()
) -> Outcome:
    """Prepare one scan into ``pieces/<key>``, unless it is there or ``known`` already.

    Whatever goes wrong with this scan is returned, never raised, so that a batch goes on; only
    failing to write (a full disk) is raised.

    Raises:
        VoltaError: the piece cannot be written.
    """
    try:
        digest = sha256(scan.source)
        key = piece_key(digest, sha256(scan.label) if scan.label else "", contract)
        if key in known or (pieces / key).is_dir():
            return Outcome(key, digest)
        prepared = prepare_scan(scan.source, contract, scan.label)
    except Refused as error:
        return Outcome(refused=error.finding)
    except OSError as error:
        what, fix = f"Cannot be read: {error.strerror or error}", "Fetch or restore the file"
        return Outcome(refused=Finding("error", "unreadable", what, fix))
    except MemoryError:
        what, fix = "Not enough memory for this scan", "Prepare it with --workers 1"
        return Outcome(refused=Finding("error", "memory", what, fix))
    except Exception as error:  # anything else a broken file can provoke in a library
        what = f"Unforeseen {type(error).__name__}: {error}"
        fix = "Look at the scan; if it opens elsewhere, please report this"
        return Outcome(refused=Finding("error", "unforeseen", " ".join(what.split()), fix))
    _publish(prepared, contract, pieces / key)
    return Outcome(key, digest, fresh=True)


def piece_key(source_sha256: str, label_sha256: str, contract: Contract) -> str:
    """What the content of a piece depends on, as a hash."""
    given = [source_sha256, label_sha256, contract.software, contract.preparation()]
    return content_hash(given)


def _publish(prepared: Prepared, contract: Contract, folder: Path) -> None:
    facts: dict[str, Any] = {
        "affine": prepared.affine.tolist(),
        "foreground_mm3": prepared.foreground_mm3,
        "brain_mm3": None if math.isnan(prepared.brain_mm3) else prepared.brain_mm3,
        "findings": [f.content() for f in prepared.findings],
        "has_label": prepared.label is not None,
    }
    with atomic_folder(folder) as temporary:
        stored = create_cubes(temporary / VOLUMES, 1, contract.size, contract.storage)
        stored[0] = encode(prepared.volume, contract)
        if prepared.label is not None:
            create_cubes(temporary / LABELS, 1, contract.size, "uint16")[0] = prepared.label
        write_png(temporary / PICTURE, mosaic(prepared.volume, prepared.label, contract))
        write_json(temporary / FACTS, facts)
