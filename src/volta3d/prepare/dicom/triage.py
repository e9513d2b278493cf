"""Triage: which series of a source are T1-weighted volumes, and why the others are not taken."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from volta3d.prepare.checks import MAX_VOXELS
from volta3d.prepare.claims import NOTHING_TO_DO, Claims, refusal, remarks
from volta3d.prepare.dicom.files import Found, Located, Opener, find
from volta3d.prepare.dicom.geometry import stack
from volta3d.prepare.dicom.header import EXPORT, NATIVE, Frame, Header, read_header
from volta3d.prepare.dicom.series import Series
from volta3d.prepare.dicom.split_series import REUNITED, reunited
from volta3d.prepare.findings import Finding, Refused

DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# what dcm2niix decodes: run lengths, JPEG baseline and lossless, JPEG-LS, JPEG 2000
CONVERTER_DECODES = {"1.2.840.10008.1.2.5"} | {
    f"1.2.840.10008.1.2.4.{n}" for n in ("50", "57", "70", "80", "81", "90", "91")
}


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Args:
        series: those that can become scans, in the order of their first files.
        refused: everything else that was DICOM, with the reason.
        strays: files that are not DICOM.
        objects: DICOM files without a picture (directories, reports, presentation states).
    """

    series: tuple[Series, ...]
    refused: tuple[tuple[Path, Finding], ...]
    strays: int = 0
    objects: int = 0


def survey(root: Path) -> Survey:
    """Read every header below ``root`` (a folder, a zip or a file) and sort the series out.

    Only headers are read, nothing is written. Of several echoes the shortest is taken.
    """
    groups: dict[tuple[str, ...], tuple[list[Frame], dict[Header, None]]] = {}
    objects = 0
    with Opener() as opener:
        found = find(root, opener)
        refused = list(found.refused)
        for header in _headers(found, opener, refused):
            if header is None:
                objects += 1
                continue
            mine = (header.series or header.frames[0].file.name, header.claims.part)
            frames, headers = groups.setdefault(mine, ([], {}))
            frames.extend(header.frames)
            headers[replace(header, frames=())] = None  # each kept once: most slices share one
    series = []
    whole, joined = reunited(groups)
    for key, (frames, headers) in whole.items():
        noticed = (REUNITED,) if key in joined else ()
        candidate = Series(tuple(frames), next(iter(headers)), root, noticed)
        try:
            series.append(_judge(candidate, list(headers)))
        except Refused as error:
            refused.append((candidate.path, _reunited_too(error.finding, noticed)))
    ignored = found.strays + objects
    if ignored:
        what = f"{found.strays} files that are not DICOM and {objects} without a picture ignored"
        series = [_noting(s, Finding("info", "stray-files", what)) for s in series]
    return Survey(tuple(series), tuple(refused), found.strays, objects)


def _headers(
    found: Found, opener: Opener, refused: list[tuple[Path, Finding]]
) -> Iterator[Header | None]:
    broken: list[tuple[Located, Finding]] = []
    for located in found.files:
        try:
            with opener.open(located) as stream:
                yield read_header(stream, located)
        except Refused as error:
            broken.append((located, error.finding))
        except (OSError, zipfile.BadZipFile, EOFError):
            finding = Finding("error", "unreadable", "Cannot be read", "Restore the file")
            broken.append((located, finding))
    refused += [(located.path, finding) for located, finding in broken]


def _judge(series: Series, headers: list[Header]) -> Series:
    """The series, reduced to the planes wanted, with what was noticed.

    Raises:
        Refused: it isn't a T1-weighted volume, or is one that cannot be converted faithfully.
    """
    _check_pictures(headers)
    reason = refusal(_claims(series))
    if reason is not None:
        raise Refused(reason.code, reason.what, reason.how_to_fix)
    series = _one_echo(series)
    findings = list(_notes(series))
    header = series.header
    if any((h.rows, h.columns) != (header.rows, header.columns) for h in headers):
        raise Refused("mixed-sizes", "Pictures of different size in one series", EXPORT)
    if header.rows * header.columns * len(series.frames) > MAX_VOXELS:
        raise Refused("too-large", f"{len(series.frames)} planes of impossible size", EXPORT)
    findings += stack(series.frames, header.rows, header.columns).findings
    return _noting(series, *findings)


def _check_pictures(headers: Iterable[Header]) -> None:
    for header in headers:
        if header.sop_class.startswith(SECONDARY_CAPTURE):
            what = "A secondary capture: a picture of a screen or a document"
            raise Refused("secondary-capture", what, NOTHING_TO_DO)
        if header.samples == 1 and not header.photometric:
            raise Refused("bad-dicom", "Whether small values are dark is not said", EXPORT)
        if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
            raise Refused("rgb", "Colour pictures, not a scan", NOTHING_TO_DO)
        if header.modality != "MR":
            raise Refused("not-mr", "Not magnetic resonance", NOTHING_TO_DO)
        if header.burned_in:
            what = "The header says that names or dates are burned into the pictures"
            raise Refused("burned-in", what, "Use the original series, or have it cleaned")
        if header.bits not in (8, 16):
            raise Refused("no-decoder", f"Voxels of {header.bits} bits", EXPORT)
        decoded = NATIVE | CONVERTER_DECODES | {""}
        if header.transfer_syntax not in decoded:
            raise Refused("no-decoder", "No decoder for how the pictures are compressed", EXPORT)


def _claims(series: Series) -> Claims:
    echo = min((f.echo_time for f in series.frames), default=0.0)
    return replace(series.header.claims, echo_time=echo)


def _one_echo(series: Series) -> Series:
    """The planes of the shortest echo."""
    echoes = sorted({round(f.echo_time, 2) for f in series.frames if f.echo_time == f.echo_time})
    if len(echoes) < 2:
        return series
    kept = tuple(f for f in series.frames if round(f.echo_time, 2) == echoes[0])
    what = f"{len(echoes)} echoes; took the shortest, {echoes[0]:g} ms"
    note = Finding("info", "multi-echo", what)
    return Series(kept, series.header, series.root, (*series.findings, note))


def _notes(series: Series) -> Iterator[Finding]:
    header, claims = series.header, _claims(series)
    if claims.t1 is None:
        what = "Neither description nor timing says whether this is T1-weighted"
        yield Finding("warning", "weighting-unknown", what, "Look at it in qc/index.html")
    if "DERIVED" in header.words:
        what = "Derived pictures: processed after reconstruction"
        yield Finding("warning", "derived", what, "Use the original series if there is one")
    if "SECONDARY" in header.words:
        what = "Secondary pictures: text may be burned in"
        yield Finding("warning", "perhaps-burned-in", what, "Look at it in qc/index.html")
    yield from remarks(claims)
    if header.lossy:
        yield Finding("warning", "lossy", "Compressed with loss before it came here")
    numbers = sorted({f.instance for f in series.frames if f.instance > 0})
    several = any(f.code == "multi-echo" for f in series.findings)
    if not several and len(numbers) > 1 and numbers[-1] - numbers[0] + 1 > len(numbers):
        what = "Numbers are missing among the instances, though the slices are regular"
        yield Finding("warning", "instance-gap", what, "Check that the series is complete")


def _reunited_too(finding: Finding, noticed: tuple[Finding, ...]) -> Finding:
    said = "".join(f"; {f.what[0].lower()}{f.what[1:]}" for f in noticed)
    return replace(finding, what=finding.what + said)


def _noting(series: Series, *findings: Finding) -> Series:
    return Series(series.frames, series.header, series.root, (*series.findings, *findings))
