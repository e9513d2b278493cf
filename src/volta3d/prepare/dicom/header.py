"""What may leave a DICOM header: an allow-list, of tags and of values.

Free text (descriptions, protocol and device names) is reduced to words of a fixed vocabulary, ids
and names to hashes that are compared in memory and never written. Everything else is not read.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, BinaryIO

from volta3d.prepare.claims import Claims
from volta3d.prepare.dicom.files import Located
from volta3d.prepare.dicom.values import either, first, get, number, text, texts, whole
from volta3d.prepare.findings import Refused
from volta3d.prepare.vocabulary import (
    body_part,
    hints,
    image_words,
    manufacturer,
    model,
    names_agent,
)

TAGS = (
    "SOPClassUID", "Modality", "ImageType", "StudyInstanceUID", "SeriesInstanceUID",
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "StudyDate",
    "StudyTime", "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName",
    "ScanningSequence", "EchoPulseSequence", "EchoTime", "RepetitionTime", "InversionTime",
    "FlipAngle", "MagneticFieldStrength", "Manufacturer", "ManufacturerModelName",
    "ContrastBolusAgent", "BurnedInAnnotation", "LossyImageCompression", "InstanceNumber",
    "BodyPartExamined", "SeriesNumber", "Rows", "Columns", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
PROTOCOL = ("SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName")
MAX_FRAMES = 20_000
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPORT = "Export the series again from the archive or the scanner"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one plane lies: position and direction cosines in mm (LPS), NaN where unknown.

    Args:
        file: where it is stored.
        index: its number within the file.
        position: centre of the first pixel.
        orientation: direction of the columns' index, then of the rows' index.
        spacing: between rows, between columns.
        echo_time: ms.
        instance: the header's number, 0 when there is none.
    """

    file: Located
    index: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    echo_time: float
    instance: int


@dataclass(frozen=True)
class Header:
    """The allow-listed facts of one DICOM file.

    Args:
        series, study, person: hashes to compare; empty when the header says nothing.
        protocol: a hash of what the slices of one series share whatever their UIDs are.
        moment: date and time of the study, to order the visits of a person by; never written.
        words: of the image type; ``hints``: of descriptions and names, both of a fixed vocabulary.
        frames: its planes; none in what a series keeps.
    """

    series: str
    study: str
    protocol: str
    person: str
    moment: str
    sop_class: str
    modality: str
    words: frozenset[str]
    hints: frozenset[str]
    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits: int
    burned_in: bool
    lossy: bool
    contrast: bool
    body: str
    sex: str
    age: float
    repetition_time: float
    inversion_time: float
    flip_angle: float
    field_strength: float
    manufacturer: str
    model: str
    frames: tuple[Frame, ...]

    @property
    def claims(self) -> Claims:
        """What it says of the image."""
        echo = min((f.echo_time for f in self.frames), default=math.nan)
        return Claims(
            self.words, self.hints, self.body, self.contrast, echo, self.repetition_time,
            self.inversion_time,
        )  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom without warnings or log lines, which would quote the header."""
    from pydicom import config

    logger = logging.getLogger("pydicom")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.level = level


def read_header(stream: BinaryIO, located: Located) -> Header | None:
    """The facts of a DICOM file; None when it holds no image.

    Raises:
        Refused: it cannot be read.
    """
    import pydicom

    try:
        syntax = transfer_syntax(stream)
        if syntax == DEFLATED:  # would be inflated whole before any limit could hold
            raise Refused("no-decoder", "A deflated DICOM file", EXPORT + ", uncompressed")
        stream.seek(0)
        with quiet():
            dataset = pydicom.dcmread(
                stream, stop_before_pixels=True, force=True, specific_tags=list(TAGS)
            )
            return _header(dataset, syntax, located)
    except Refused:
        raise
    except Exception as error:  # whatever a broken file provokes; its text may quote the header
        what = f"The DICOM header cannot be read ({type(error).__name__})"
        raise Refused("bad-dicom", what, EXPORT) from error


def transfer_syntax(stream: BinaryIO) -> str:
    """The transfer syntax in the file's meta group, which is always explicit little endian.

    Files without one are implicit little endian, or what their first element looks like.
    """
    head = stream.read(2**14)
    at = 132 if head[128:132] == b"DICM" else 0
    while head[at : at + 2] == b"\x02\x00" and at + 8 <= len(head):
        element, kind = head[at + 2 : at + 4], head[at + 4 : at + 6]
        long = kind in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        start = at + (12 if long else 8)
        length = int.from_bytes(head[at + 8 : start] if long else head[at + 6 : start], "little")
        if element == b"\x10\x00":
            return head[start : start + length].decode("ascii", "replace").strip("\0 ")
        at = start + length
    return ""


def _header(data: Any, syntax: str, located: Located) -> Header | None:
    rows, columns = whole(data, "Rows"), whole(data, "Columns")
    sop_class = text(data, "SOPClassUID")
    if rows <= 0 or columns <= 0:
        return None
    described = " ".join(
        text(data, k)
        for k in ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
    )
    sequence = " ".join(texts(data, "ScanningSequence") + texts(data, "EchoPulseSequence"))
    common = first(data, "SharedFunctionalGroupsSequence")
    timing = first(common, "MRTimingAndRelatedParametersSequence")
    return Header(
        series=_hash(text(data, "SeriesInstanceUID")),
        study=_hash(text(data, "StudyInstanceUID")),
        protocol=_hash(*(text(data, k) for k in PROTOCOL)),
        person=_hash(*(text(data, k) for k in ("PatientID", "PatientName", "PatientBirthDate"))),
        moment=text(data, "StudyDate") + text(data, "StudyTime"),
        sop_class=sop_class,
        modality=text(data, "Modality"),
        words=image_words(texts(data, "ImageType")),
        hints=hints(described, sequence),
        transfer_syntax=syntax,
        rows=rows,
        columns=columns,
        samples=whole(data, "SamplesPerPixel", 1),
        photometric=text(data, "PhotometricInterpretation").upper(),
        bits=whole(data, "BitsAllocated", 16),
        burned_in=text(data, "BurnedInAnnotation").upper() == "YES",
        lossy=text(data, "LossyImageCompression") == "01",
        contrast=names_agent(text(data, "ContrastBolusAgent")),
        body=body_part(text(data, "BodyPartExamined")),
        sex={"M": "M", "F": "F"}.get(text(data, "PatientSex").upper(), ""),
        age=_age(data),
        repetition_time=either(number(data, "RepetitionTime"), number(timing, "RepetitionTime")),
        inversion_time=number(data, "InversionTime"),
        flip_angle=either(number(data, "FlipAngle"), number(timing, "FlipAngle")),
        field_strength=number(data, "MagneticFieldStrength"),
        manufacturer=manufacturer(text(data, "Manufacturer")),
        model=model(text(data, "ManufacturerModelName")),
        frames=tuple(_frames(data, common, located)),
    )


def _frames(data: Any, common: Any, located: Located) -> Iterator[Frame]:
    instance = whole(data, "InstanceNumber")
    count = max(whole(data, "NumberOfFrames", 1), 1)
    own = getattr(data, "PerFrameFunctionalGroupsSequence", None) or []
    if count > MAX_FRAMES or (own and len(own) != count):
        raise Refused("bad-dicom", "The number of frames is impossible", EXPORT)
    for index in range(count):
        groups = [own[index], common] if own else [common]
        orientation = _vector(
            data, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6
        )
        spacing = _vector(data, groups, "PixelMeasuresSequence", "PixelSpacing", 2)
        yield Frame(
            file=located,
            index=index,
            position=_vector(data, groups, "PlanePositionSequence", "ImagePositionPatient", 3),
            orientation=_shared(orientation),
            spacing=_shared(spacing),
            echo_time=_vector(data, groups, "MREchoSequence", "EffectiveEchoTime", 1)[0]
            if own
            else number(data, "EchoTime"),
            instance=index + 1 if own else instance,
        )


@lru_cache(1024)
def _shared(numbers: tuple[float, ...]) -> tuple[float, ...]:
    """One object for all slices that say the same: an archive has hundreds of thousands."""
    return numbers


def _vector(data: Any, groups: list[Any], macro: str, name: str, n: int) -> tuple[float, ...]:
    for place in [first(group, macro) for group in groups] + [data]:
        value = get(place, name)
        if value is not None:
            try:
                numbers = [float(v) for v in (value if n > 1 else [value])]
            except (TypeError, ValueError):
                break
            if len(numbers) == n and all(math.isfinite(v) and abs(v) < 1e6 for v in numbers):
                return tuple(numbers)
            break
    return (math.nan,) * n


def _age(data: Any) -> float:
    """Years: the header's age, else from the dates, which are then forgotten."""
    given = text(data, "PatientAge").upper()
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}.get(given[-1:])
    if per_year and given[:-1].isdigit():
        return round(int(given[:-1]) / per_year, 2)
    try:
        born, seen = (
            date.fromisoformat(text(data, k)[:8]) for k in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:
        return math.nan
    years = (seen - born).days / 365.25
    return round(years, 1) if 0 <= years <= 120 else math.nan


def _hash(*texts: str) -> str:
    joined = "\0".join(t.strip().lower() for t in texts)
    return hashlib.sha256(joined.encode()).hexdigest() if joined.strip("\0") else ""
