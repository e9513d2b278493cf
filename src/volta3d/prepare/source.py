"""A scan as a NIfTI file, whatever it is stored as, and what its content hashes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from volta3d.cohort.contract import Contract
from volta3d.prepare.findings import Finding
from volta3d.prepare.image import image_sha256
from volta3d.prepare.labels import about_names
from volta3d.prepare.scan import Scan
from volta3d.prepare.volume import Prepared, prepare_scan


@contextmanager
def as_nifti(scan: Scan, work: Path | None = None) -> Iterator[tuple[Path, tuple[Finding, ...]]]:
    """Yield a NIfTI file of the scan and what its conversion noticed.

    A NIfTI scan is its own file. A DICOM series is converted into a temporary folder that is
    removed when the context ends.

    Args:
        scan: of a layout.
        work: where temporary folders are made; the system's place for them if None.

    Raises:
        Refused: the series cannot be converted.
    """
    if scan.series is None:
        yield scan.source, ()
        return
    from volta3d.prepare.dicom.conversion import convert

    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="converted-", dir=work) as folder:
        target = Path(folder) / "scan.nii"
        findings = convert(scan.series, target)
        yield target, findings


def prepare_source(scan: Scan, contract: Contract, work: Path | None = None) -> Prepared:
    """Prepare one scan in memory, whatever it is stored as.

    Args:
        scan: of a layout.
        contract: how.
        work: as ``as_nifti``.

    Raises:
        Refused: with the reason and the way to fix it.
    """
    with as_nifti(scan, work) as (nifti, noticed):
        prepared = prepare_scan(nifti, contract, scan.label)
    named = about_names(prepared.label, scan.label_names)
    return replace(prepared, findings=(*noticed, *prepared.findings, *named))


def source_sha256(scan: Scan) -> str:
    """The SHA-256 of a scan's file, or of all files of its series.

    Raises:
        OSError: it cannot be read.
        Refused: a damaged archive.
    """
    return image_sha256(scan.source) if scan.series is None else scan.series.sha256()
