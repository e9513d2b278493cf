"""DICOM in, NIfTI out: find files by content, sort the series out, convert, check.

``survey`` reads headers only and writes nothing; ``convert`` makes one NIfTI file of one series;
``convert_folder`` does both. A layout gives each ``Series`` to its ``Scan``, which is converted
when it is prepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from volta3d.prepare.dicom.conversion import convert
from volta3d.prepare.dicom.converter import missing
from volta3d.prepare.dicom.files import any_dicom
from volta3d.prepare.dicom.series import Series
from volta3d.prepare.dicom.triage import Survey, survey
from volta3d.prepare.findings import Finding, Refused

__all__ = [
    "Candidate",
    "Series",
    "Survey",
    "any_dicom",
    "convert",
    "convert_folder",
    "missing",
    "survey",
]


@dataclass(frozen=True)
class Candidate:
    """A converted series.

    Args:
        nifti: the file made of it.
        series: what it was made of.
        findings: of triage and of the conversion.
    """

    nifti: Path
    series: Series
    findings: tuple[Finding, ...]


def convert_folder(
    path: Path, work: Path
) -> tuple[list[Candidate], tuple[tuple[Path, Finding], ...]]:
    """Convert every T1-weighted series of a folder, a zip or a file into ``work``.

    Returns:
        The candidates as ``work/1.nii`` and so on, and everything refused with its reason.
    """
    found = survey(path)
    candidates, refused = [], list(found.refused)
    for number, series in enumerate(found.series, 1):
        target = work / f"{number}.nii"
        try:
            noticed = convert(series, target)
        except Refused as error:
            refused.append((series.path, error.finding))
        else:
            candidates.append(Candidate(target, series, (*series.findings, *noticed)))
    return candidates, tuple(refused)
