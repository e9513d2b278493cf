"""Small heads with known truth, and NIfTI files whose headers can be spoilt byte by byte."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

Make = Callable[..., Path]


def make_head(n: int = 20, spacing: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """int16 [n, n + 2, n + 4] and its RAS affine: a noisy ellipsoid, brighter on the right."""
    shape = (n, n + 2, n + 4)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij"))
    inside = (grid**2).sum(axis=0) < 0.6
    data = np.random.default_rng(0).integers(1, 12, shape)
    data += inside * (
        100 + np.rint(40 * (grid[0] > 0.2)).astype(int) + np.rint(20 * grid[2]).astype(int)
    )
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-76, -64, -88]
    return data.astype(np.int16), affine


def header_of(raw: bytes) -> nib.Nifti1Header:
    return nib.Nifti1Header(raw[:348], check=False)


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray]:
    return make_head()


@pytest.fixture
def nifti() -> Make:
    """Write ``data`` and ``affine`` as NIfTI-1; header fields given by name are forced in."""

    def write(
        path: Path,
        data: np.ndarray | None = None,
        affine: np.ndarray | None = None,
        **fields: object,
    ) -> Path:
        if data is None:
            data, affine = make_head()
        image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
        raw = image.to_bytes()
        header = header_of(raw)
        for name, value in fields.items():
            header[name] = value
        raw = header.binaryblock + raw[348:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(raw, 1) if path.name.endswith(".gz") else raw)
        return path

    return write


@pytest.fixture
def bids(tmp_path: Path, nifti: Make) -> Callable[..., Path]:
    """A BIDS folder of ``subjects`` heads that differ, with a participants table and labels."""

    def build(
        subjects: int = 3,
        name: str = "Tiny heads, for tests",
        labels: bool = True,
        **description: object,
    ) -> Path:
        root = tmp_path / name.split(",")[0].replace(" ", "-").lower()
        rows = ["participant_id\tage\tsex\tsite"]
        for k in range(1, subjects + 1):
            data, affine = make_head()
            data[0, 0, 0] += k  # each file has bytes of its own
            nifti(root / f"sub-{k:02d}/anat/sub-{k:02d}_T1w.nii.gz", data, affine)
            rows.append(f"sub-{k:02d}\t{20 + k}\t{'MF'[k % 2]}\tX")
            if labels:
                marks = np.zeros(data.shape, np.uint8)
                marks[13:16, 8:12, 8:12], marks[4:7, 8:12, 8:12] = 47, 48
                path = f"derivatives/hand/sub-{k:02d}/anat/sub-{k:02d}_desc-hand_dseg.nii.gz"
                nifti(root / path, marks, affine)
        (root / "participants.tsv").write_text("\n".join(rows) + "\n")
        if labels:
            names = "index\tname\n47\tRight-Hippocampus\n48\tLeft-Hippocampus\n"
            (root / "derivatives/hand/dseg.tsv").write_text(names)
        content = {"Name": name, "BIDSVersion": "1.10.0", **description}
        (root / "dataset_description.json").write_text(json.dumps(content))
        return root

    return build
