"""Where the brain is: a mask given in BIDS derivatives, or deepbet's (extra ``skullstrip``).

Fisch et al., deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks,
Comput Biol Med 179 (2024). Its networks come inside its wheel; nothing is downloaded.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.errors import UsageError
from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.foreground import average
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.geometry import same_grid, to_ras
from volta3d.prepare.image import read_image
from volta3d.prepare.layouts.bids_labels import NATIVE_SPACES, LabelFile, matching_label
from volta3d.prepare.layouts.bids_names import entities

MASK = "*_desc-brain_mask.nii*"
FINE_MM = 1.0  # deepbet looks no closer than this
LEAST_ML, MOST_ML = 400.0, 2500.0  # an infant's brain and a large head's; outside is suspicious
FIX = "Give a *_desc-brain_mask.nii.gz on the grid of the scan, or prepare without skull_strip=mask"


def require_deepbet() -> None:
    """Make sure that deepbet can run before any work starts.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import deepbet.bet  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "skull_strip=deepbet needs deepbet",
            fix="Install it with: pip install 'volta3d[skullstrip]'",
        ) from error


def brain_mask(
    data: np.ndarray, affine: np.ndarray, source: Path, contract: Contract
) -> tuple[np.ndarray | None, list[Finding]]:
    """The brain as bool [I, J, K] on the scan's own grid, None when nothing is stripped.

    Args:
        data: float32 [I, J, K] in RAS order.
        affine: 4x4 from voxels to world mm.
        source: the scan's file, beside whose data set a mask may lie.
        contract: ``skull_strip`` says where the mask comes from.

    Raises:
        Refused: no mask, one on another grid, or an empty one.
    """
    if contract.skull_strip == "none":
        return None, []
    if contract.skull_strip == "mask":
        mask = _given(source, affine, data.shape)
    else:
        mask = _deepbet(data, affine)
    if not mask.any():
        raise Refused("empty-brain-mask", "The brain mask is empty", FIX)
    ml = float(mask.sum() * abs(np.linalg.det(affine[:3, :3]))) / 1000
    if LEAST_ML <= ml <= MOST_ML:
        return mask, []
    what = f"The brain mask holds {ml:.0f} ml"
    return mask, [Finding("warning", "odd-brain-volume", what, "Look at its picture")]


def find_mask(source: Path) -> Path | None:
    """The brain mask of a scan in the derivatives of its BIDS data set, if there is one.

    It must belong to this scan alone: a mask that names no session fits a person with one scan.
    """
    parents = list(source.parents)
    root = next((p for p in parents if (p / "derivatives").is_dir()), None)
    if root is None or source.relative_to(root).parts[0] == source.name:
        return None
    subject = source.relative_to(root).parts[0]
    candidates = []
    for path in sorted((root / "derivatives").glob(f"*/{subject}/**/{MASK}")):
        named = entities(path)
        native = named.get("space", "T1w").lower() in NATIVE_SPACES
        if native and is_nifti(path) and path.resolve().is_relative_to(root.resolve()):
            candidates.append(LabelFile(path, named, path.parent))
    images = [p for p in (root / subject).rglob("*") if is_nifti(p) and p.parent.name == "anat"]
    siblings = [entities(p) for p in images if stem(p).lower().endswith("_t1w")]
    found, _ = matching_label(entities(source), siblings, candidates)
    return found.path if found else None


def _given(source: Path, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    path = find_mask(source)
    if path is None:
        raise Refused("no-brain-mask", "No brain mask belongs to this scan", FIX)
    try:
        image = read_image(path)
    except Refused as error:
        what = f"Brain mask {path.name}: {error.finding.what}"
        raise Refused("mask-" + error.finding.code, what, FIX) from error
    mask, own = to_ras(image.data, image.affine)
    if not same_grid(affine, own, shape, mask.shape):
        raise Refused("mask-grid", f"Brain mask {path.name} is not on the grid of its scan", FIX)
    inside: np.ndarray = np.ascontiguousarray(mask > 0.5)  # NaN is outside
    return inside


def _deepbet(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """deepbet on blocks of up to 1 mm, which bounds its memory."""
    blocks = [max(1, int(FINE_MM / z + 1e-3)) for z in voxel_sizes(affine)]
    small = average(data, blocks) if max(blocks) > 1 else data
    network = _network()
    try:
        found = network.postprocess(network.run_model(small) > 0.5)
    except AssertionError as error:  # how it says that it found no head
        raise Refused("no-brain", f"deepbet found no brain: {error}", "Look at the scan") from error
    mask = np.asarray(found, bool)
    for axis, block in enumerate(blocks):
        if block > 1:
            mask = np.repeat(mask, block, axis=axis)
    return np.ascontiguousarray(mask[tuple(slice(0, n) for n in data.shape)])


@cache
def _network() -> Any:
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=True)
