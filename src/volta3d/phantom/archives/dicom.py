"""A DICOM series of a scan, one file a slice, as the IDA hands them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from volta3d.errors import VoltaError
from volta3d.phantom.archives.scans import Person

STUDY = {"Manufacturer": "SYNTHETIC", "ManufacturerModelName": "volta3d phantom"}


def write_series(
    folder: Path, names: str, values: np.ndarray, affine: np.ndarray, person: Person, about: str
) -> None:
    """One file a slice of ``values`` int16 [columns, rows, slices].

    Args:
        folder: of the series.
        names: what every file's name begins with; the slice's number follows.
        affine: voxel to world in RAS mm; DICOM counts to the left and to the back.
        about: the series' description.

    Raises:
        VoltaError: pydicom is not installed.
    """
    try:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
    except ImportError as error:
        raise VoltaError(
            "Synthetic DICOM needs pydicom, which is missing",
            where="pydicom",
            fix="pip install 'volta3d[dicom]'",
        ) from error
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    across, down = lps[:3, 0] / steps[0], lps[:3, 1] / steps[1]
    study, series = (generate_uid(entropy_srcs=[word, names]) for word in ("study", "series"))
    folder.mkdir(parents=True)
    for number in range(values.shape[2]):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MRImageStorage
        uid = generate_uid(entropy_srcs=["slice", names, str(number)])
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", names])
        for tag, value in STUDY.items():
            setattr(one, tag, value)
        one.Modality, one.SeriesDescription, one.SeriesNumber = "MR", about, 2
        one.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        one.PatientID = one.PatientName = person.name
        one.PatientSex, one.PatientAge = person.sex, f"{int(person.age):03d}Y"
        one.EchoTime, one.RepetitionTime, one.InversionTime = 3.0, 2300.0, 900.0
        one.MagneticFieldStrength, one.FlipAngle, one.MRAcquisitionType = 1.5, 8.0, "3D"
        one.InstanceNumber = number + 1
        one.Rows, one.Columns = values.shape[1], values.shape[0]
        one.PixelSpacing = [_short(steps[1]), _short(steps[0])]
        one.SliceThickness = _short(steps[2])
        one.ImagePositionPatient = [_short(v) for v in lps[:3, 3] + number * lps[:3, 2]]
        one.ImageOrientationPatient = [_short(v) for v in (*across, *down)]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.PixelData = np.ascontiguousarray(values[:, :, number].T, "<i2").tobytes()
        one["PixelData"].VR = "OW"
        one.save_as(folder / f"{names}_{number + 1}.dcm", enforce_file_format=True)


def _short(value: float) -> str:
    return f"{value:.8f}"[:16]  # a decimal string holds 16 characters
