"""Trees as LONI's Image and Data Archive (IDA) packs them, whatever the study.

``<study>/<subject>/<description>/<date_time>/<image id>/`` holds one image: a NIfTI file or the
DICOM files of a series. Older downloads name the last folder after the series (``S13407``) and put
the image's id at the end of the file's name (``..._I40966.nii``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import is_nifti, stem
from volta3d.prepare.layouts.near import near_tables
from volta3d.prepare.scan import LINK_OUT, within
from volta3d.prepare.tables import Row, read_table
from volta3d.prepare.walk import entries, folders

if TYPE_CHECKING:
    from volta3d.prepare.dicom.series import Series
    from volta3d.prepare.dicom.triage import Survey

MOMENT = re.compile(r"(\d{4})-(\d{2})-(\d{2})_\d{2}_\d{2}_\d{2}(\.\d+)?")
NUMBER = re.compile(r"[ISD]?(\d+)")
FILE_ID = re.compile(r"_I(\d+)$")
T1 = re.compile(r"mp ?rage|\bmpr\b|\bf?spgr\b|\bm?t1w?\b|\bbravo\b|\btfe\b|\bmdeft\b")
OTHER = re.compile(
    r"t2|flair|\bpd\b|dti|dwi|diff|\basl\b|perf|fmri|bold|rest|\bepi\b|scout|\bloc|survey"
    r"|field ?map|phase|calib|\bb1\b|hippo|\bswi\b|\bgre\b|gradient|\btof\b|\bpet\b|av45|av1451|fdg"
    r"|\bpib\b|flute|tau|jacobian|\btbm\b|\bcbf\b|\badc\b|\bfa\b|relcbf|moco|dynamic|map\b|coreg"
)
NOT_AN_IMAGE = re.compile(r"\bmask\b|jacobian|\btbm\b|segment|boundary shift")
IMAGE_ID = ("image data id", "image id", "image_id", "image_data_id")
SUBJECT = ("subject", "subject id", "subject_id")
UNKNOWN_FIX = (
    "If it is T1-weighted, prepare its folder as a source of its own with --layout folder or "
    "--layout dicom; else there is nothing to do"
)


@dataclass(frozen=True)
class IdaImage:
    """One T1-weighted image of an IDA tree.

    Args:
        subject, description: names of its folders.
        day: when it was acquired, None if the folder doesn't say.
        numbers: the numbers in the names of its folder and file, without their letters.
        source: its file, or the first of its DICOM files.
        series: for DICOM, what it is converted from.
        findings: of the triage of DICOM files.
    """

    subject: str
    description: str
    day: date | None
    numbers: tuple[str, ...]
    source: Path
    series: Series | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def image_id(self) -> str:
        """As the archive calls it, e.g. I40966."""
        return f"I{self.numbers[0]}" if self.numbers else ""


def is_t1(description: str) -> bool | None:
    """Whether a description names a T1-weighted image; None when it cannot be told.

    A word for T1 wins over others: ``MPR; GradWarp; B1 Correction; N3`` is T1-weighted.
    """
    text = re.sub(r"[^a-z0-9]+", " ", description.lower()).strip()
    if NOT_AN_IMAGE.search(text):
        return False
    if T1.search(text):
        return True
    return False if OTHER.search(text) else None


def ida_subjects(root: Path, is_subject: Callable[[str], bool]) -> list[Path]:
    """Subject folders of ``root`` or of the folders in it that have the shape of an IDA tree."""
    bases = [root, *(p for p in folders(root) if not is_subject(p.name))]
    subjects = [p for base in bases for p in folders(base) if is_subject(p.name)]
    return [s for s in subjects if next(_leaves(s), None) is not None]


def ida_images(
    root: Path, is_subject: Callable[[str], bool]
) -> tuple[list[IdaImage], list[tuple[Path, Finding]]]:
    """The T1-weighted images of a tree, and what could not be judged or read.

    Other contrasts (T2, FLAIR, PET, ...) are passed over; what no rule knows is refused, not
    guessed.

    Args:
        root: the study's folder, or one that holds it.
        is_subject: whether a folder is named like a subject.
    """
    images, refused = list[IdaImage](), list[tuple[Path, Finding]]()
    for subject in ida_subjects(root, is_subject):
        for leaf in _leaves(subject):
            description = leaf.parent.parent.name
            verdict = is_t1(description)
            if verdict is None:
                what = f"Whether '{description}' is T1-weighted is not known"
                refused.append((leaf, Finding("error", "unknown-contrast", what, UNKNOWN_FIX)))
            elif verdict:
                found, wrong = _images_of(leaf, root)
                images += found
                refused += wrong
    return images, refused


def search_table(root: Path, skip: Callable[[str], bool]) -> dict[str, Row]:
    """Rows of the tables that the IDA's search gives along, by the image's number."""
    rows: dict[str, Row] = {}

    def wanted(_: str, names: frozenset[str]) -> bool:
        return not names.isdisjoint(IMAGE_ID) and not names.isdisjoint(SUBJECT)

    for path in near_tables(root, wanted, skip=skip):
        for row in read_table(path):
            match = NUMBER.fullmatch(next((row[c] for c in IMAGE_ID if row.get(c)), ""))
            if match:
                rows.setdefault(str(int(match[1])), row)
    return rows


def row_of(image: IdaImage, rows: Mapping[str, Row]) -> Row:
    """The row of an image, empty without one; a row of another subject isn't its row."""
    found = (rows[n] for n in image.numbers if n in rows)
    mine = image.subject.lstrip("0").lower()
    return next((r for r in found if _subject(r) == mine), {})


def _subject(row: Row) -> str:
    return next((row[c] for c in SUBJECT if row.get(c)), "").lstrip("0").lower()


def read_day(text: str) -> date | None:
    """A day as archives write it: 1/29/2018 (month first), 2018-01-29 or 2018-01-29 10:00."""
    american = re.match(r"(\d{1,2})/(\d{1,2})/(\d{4})", text)
    iso = re.match(r"(\d{4})-(\d{2})-(\d{2})", text)
    try:
        if american:
            return date(int(american[3]), int(american[1]), int(american[2]))
        return date(int(iso[1]), int(iso[2]), int(iso[3])) if iso else None
    except ValueError:
        return None


def _leaves(subject: Path) -> Iterator[Path]:
    for description in folders(subject):
        for moment in folders(description):
            if MOMENT.fullmatch(moment.name):
                yield from folders(moment)


def _images_of(leaf: Path, root: Path) -> tuple[list[IdaImage], list[tuple[Path, Finding]]]:
    moment = leaf.parent
    day = read_day(moment.name)
    files = entries(leaf)
    niftis, images, refused = [p for p in files if is_nifti(p)], list[IdaImage](), []
    about = (leaf.parent.parent.parent.name, leaf.parent.parent.name, day)
    for path in niftis:
        if not within(path, root):
            refused.append((path, LINK_OUT))
            continue
        images.append(IdaImage(*about, _numbers(leaf, path), path))
    if not niftis and any(p.suffix.lower() in (".dcm", ".ima", "") for p in files):
        found = _survey(leaf)
        refused += found.refused
        for series in found.series:
            numbers = _numbers(leaf, series.path)
            images.append(IdaImage(*about, numbers, series.path, series, series.findings))
    return images, refused


def _survey(leaf: Path) -> Survey:
    from volta3d.prepare import dicom

    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise dicom.missing("pydicom") from error
    return dicom.survey(leaf)


def _numbers(leaf: Path, path: Path) -> tuple[str, ...]:
    found = [FILE_ID.search(stem(path)) or FILE_ID.search(path.stem), NUMBER.fullmatch(leaf.name)]
    if leaf.name.upper().startswith("I"):
        found.reverse()
    return tuple(dict.fromkeys(str(int(m[1])) for m in found if m))
