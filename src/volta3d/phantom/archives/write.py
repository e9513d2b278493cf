"""All five archives in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from volta3d.errors import UsageError, VoltaError
from volta3d.files import atomic_folder, require_writable, write_json, write_text
from volta3d.phantom.anatomy import load_anatomy
from volta3d.phantom.archives.adni import write_adni, write_harp
from volta3d.phantom.archives.aibl import write_aibl
from volta3d.phantom.archives.brats import write_brats
from volta3d.phantom.archives.ixi import write_ixi
from volta3d.phantom.archives.scans import Camera
from volta3d.phantom.bids import LICENSE, MARK, NOTICE
from volta3d.phantom.generate import COARSE

ARCHIVES = {"adni": "ADNI", "brats": "BraTS", "ixi": "IXI", "aibl": "AIBL", "harp": "HarP"}
README = f"""\
# Synthetic archives

EVERYTHING HERE IS SYNTHETIC. No person was scanned; every name, number, age and diagnosis is
invented. The folders imitate, in names, tables and file formats, how ADNI, BraTS, HarP, IXI and
AIBL are downloaded, so that a study can be tried out before the real ones are there.

## Terms

Made from the MNI ICBM152 2009 template that nilearn bundles:

{NOTICE}
"""


def write_archives(out: Path | str, *, size: int = 1, spacing: float = 3.0, seed: int = 0) -> Path:
    """Write the five archives as `ARCHIVES` names them; the folder appears when it is complete.

    The same arguments give the same voxels and tables.

    Args:
        out: the folder to create; earlier synthetic archives there are replaced.
        size: 1 holds 12 people of ADNI, 8 of whom are HarP's, 8 of BraTS, 20 of IXI, 12 of AIBL.
        spacing: base voxel size in mm.

    Raises:
        UsageError: a number out of range.
        VoltaError: ``out`` holds something else or cannot be written, or pydicom is missing.
    """
    out = Path(out)
    if size < 1 or not 0.7 <= spacing <= 8:
        raise UsageError(
            "The archives' size or spacing is out of range",
            where=f"size {size}, spacing {spacing}",
            fix="Use a size of 1 or more, and 0.7 to 8 mm",
        )
    if out.exists() and not _ours(out):
        raise VoltaError(
            "The folder holds other files, which stay as they are",
            where=out,
            fix="Name a new folder",
        )
    require_writable(out.parent)
    camera = Camera(load_anatomy(2 if spacing >= COARSE else 1), spacing, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with atomic_folder(out) as folder:
            write_text(folder / "README", README)
            write_json(folder / MARK, {"Synthetic": True, "License": LICENSE, "seed": seed})
            write_adni(folder / ARCHIVES["adni"], camera, size)
            write_harp(folder / ARCHIVES["harp"], camera, size)
            write_brats(folder / ARCHIVES["brats"], camera, size)
            write_ixi(folder / ARCHIVES["ixi"], camera, size)
            write_aibl(folder / ARCHIVES["aibl"], camera, size)
    finally:
        torch.set_num_threads(threads)
    return out


def _ours(out: Path) -> bool:
    if out.is_dir() and not any(out.iterdir()):
        return True
    try:
        return json.loads((out / MARK).read_text(encoding="utf-8"))["Synthetic"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False
