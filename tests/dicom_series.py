"""Small DICOM series made from nothing, and a check that a volume lies where DICOM says."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, MRImageStorage

SHAPE = (20, 32, 24)  # slices, rows, columns
SPACING = (2.5, 3.0)  # between rows, between columns
GAP = 3.5
DIRECTIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": ((0.96, 0.28, 0), (-0.28, 0.96, 0)),
}


def head(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """int16 [slices, rows, columns]: a noisy ellipsoid with no symmetry left."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij"))
    inside = (grid**2).sum(axis=0) < 0.7
    data = np.random.default_rng(3).integers(1, 12, shape)
    for axis, weight in enumerate((20, 40, 60)):
        data += inside * (100 + np.rint(weight * grid[axis])).astype(int)
    return data.astype(np.int16)


def slices(
    values: np.ndarray | None = None,
    plane: str = "axial",
    uid: int = 1,
    study: int = 1,
    **tags: object,
) -> list[Dataset]:
    """One data set per slice, in order along the normal; ``tags`` are set in every one."""
    values = head() if values is None else values
    across, down = (np.array(v, float) for v in DIRECTIONS[plane])
    normal = np.cross(across, down)
    made = []
    for number, stored in enumerate(values):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.MediaStorageSOPClassUID = MRImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.{uid}.{number + 1}"
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = MRImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.825.{study}", f"1.2.826.{uid}"
        data.Modality, data.SeriesDescription = "MR", "t1_mprage_sag"
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        data.PatientID, data.PatientSex, data.PatientAge = "P1", "F", "067Y"
        data.EchoTime, data.RepetitionTime, data.InversionTime = 3.0, 2000.0, 900.0
        data.InstanceNumber = number + 1
        data.Rows, data.Columns = stored.shape
        data.PixelSpacing = list(SPACING)
        data.SliceThickness = GAP
        data.ImagePositionPatient = [
            float(v) for v in np.array([-30, -40, -35]) + number * GAP * normal
        ]
        data.ImageOrientationPatient = [float(v) for v in (*across, *down)]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.PixelRepresentation = 0
        data.PixelData = stored.astype("<i2").tobytes()
        data["PixelData"].VR = "OW"
        for name, value in tags.items():
            setattr(data, name, value)
        made.append(data)
    return made


def jpeg_2000(made: Sequence[Dataset], cut: Mapping[int, int] | None = None) -> list[Dataset]:
    """The same data sets, compressed without loss; ``cut`` bytes off the end of some slices."""
    for number, data in enumerate(made):
        values = np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns)
        buffer = io.BytesIO()
        picture = Image.fromarray(values)
        picture.save(buffer, "JPEG2000", irreversible=False, no_jp2=True, num_resolutions=2)
        packed = buffer.getvalue()
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        data.PixelData = encapsulate([packed[: len(packed) - (cut or {}).get(number, 0)]])
        data["PixelData"].VR = "OB"
        data.BitsStored, data.HighBit = 16, 15
    return list(made)


def write(folder: Path, data_sets: Sequence[Dataset], names: Sequence[str] = ()) -> Path:
    """Save data sets as 0.dcm, 1.dcm and so on, or under the names given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(data_sets):
        name = names[number] if names else f"{len(list(folder.iterdir()))}.dcm"
        pydicom.dcmwrite(folder / name, data, enforce_file_format=True)
    return folder


def assert_faithful(path: Path, data_sets: Sequence[Dataset], values: np.ndarray) -> None:
    """Every voxel of every slice lies where PS3.3 C.7.6.2.1.1 puts it, with its value.

    The formula is written out here anew: position + column * spacing[1] * first cosines
    + row * spacing[0] * second cosines, x and y negated to go from LPS to RAS.
    """
    image = nib.load(path)
    data, affine = np.asanyarray(image.dataobj), image.affine
    rows, columns = np.meshgrid(*(np.arange(n) for n in values.shape[1:]), indexing="ij")
    for number, one in enumerate(data_sets):
        cosines = np.array(one.ImageOrientationPatient, float)
        place = np.array(one.ImagePositionPatient, float)[:, None, None] + (
            cosines[:3, None, None] * columns * float(one.PixelSpacing[1])
            + cosines[3:, None, None] * rows * float(one.PixelSpacing[0])
        )
        place[:2] *= -1
        homogeneous = np.vstack([place.reshape(3, -1), np.ones((1, place[0].size))])
        index = (np.linalg.inv(affine) @ homogeneous)[:3]
        # 0.01 of a voxel: decimal strings have 16 characters, the NIfTI header has float32
        assert np.abs(index - np.rint(index)).max() < 0.01
        found = data[tuple(np.rint(index).astype(int))].reshape(values.shape[1:])
        np.testing.assert_array_equal(found, values[number])
