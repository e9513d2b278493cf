"""Read MINC files (.mnc) by nibabel."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from volta3d.prepare.checks import EXPORT, check_size, check_voxels
from volta3d.prepare.findings import Refused
from volta3d.prepare.voxels import Image, opened

CONVERT = "Convert it with: mnc2nii"


def read_minc(path: Path) -> Image:
    """Read a 3D MINC-1 file, or a MINC-2 file where h5py is installed.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    with opened(path) as (stream, _, _):
        head = stream.read(8)
    if head[:4] == b"\x89HDF":
        kind: Any = nib.Minc2Image
    elif head[:3] == b"CDF":
        kind = nib.Minc1Image
    else:
        raise Refused("bad-magic", "Not a MINC file", EXPORT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = kind.from_filename(str(path))
            shape = check_size(list(image.shape), list(image.shape))
            affine, findings = check_voxels(np.array(image.affine, np.float64))
            data = np.asarray(image.dataobj, np.float32).reshape(shape)
    except ImportError as error:
        what = "A MINC-2 file, which only h5py reads"
        raise Refused("other-format", what, CONVERT + ", or: pip install h5py") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"A MINC file that nibabel cannot read ({type(error).__name__})"
        raise Refused("bad-magic", what, CONVERT) from error
    return Image(data, affine, tuple(findings))
