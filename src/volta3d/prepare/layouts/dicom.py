"""DICOM: a folder or a zip with any mess of files; who is who comes from folders, not from headers.

The participant is the first folder below the source that holds all files of a study, or the source
itself; folders that wrap the whole content of a zip don't count. Names and ids in headers are never
written. They are only compared, in memory: two patients in one folder become two participants, and
several studies of one patient become sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from volta3d.prepare import dicom
from volta3d.prepare.dicom.archive import is_archive
from volta3d.prepare.dicom.converter import dcm2niix
from volta3d.prepare.dicom.series import Series, common_folder
from volta3d.prepare.findings import Finding
from volta3d.prepare.scan import Discovery, Scan, plain, slug, unique

SHARED = Finding(
    "warning",
    "patient-in-two-folders",
    "The headers name one patient in several folders, which count as several participants",
    "If it is one person, put the studies into one folder, or folds may share this person",
)


def matches(root: Path) -> bool:
    """Whether there is any DICOM file, by content; or a zip."""
    return dicom.any_dicom(root)


def discover(root: Path) -> Discovery:
    """The T1-weighted series of a folder, a zip or a file; headers only are read.

    Raises:
        UsageError: pydicom or dcm2niix isn't installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise dicom.missing("pydicom") from error
    dcm2niix()
    found = dicom.survey(root)
    dataset = slug(_source_name(root), keep="-").lower()
    scans = []
    for name, person in _participants(found.series, dataset, wrapped=is_archive(root)):
        studies = sorted({s.header.study for s in person}, key=lambda k: _moment(person, k))
        for study in studies:
            series = [s for s in person if s.header.study == study]
            session = f"ses-{studies.index(study) + 1}" if len(studies) > 1 else ""
            for number, one in enumerate(series, 1):
                run = str(number) if len(series) > 1 else ""
                scans.append(_scan(one, dataset, name, session, run))
    return Discovery(unique(_flagged(scans), root), found.refused)


def _scan(series: Series, dataset: str, participant: str, session: str, run: str) -> Scan:
    header, findings = series.header, list(series.findings)
    if not header.sex:
        findings.append(Finding("info", "sex-unknown", "Sex is not given"))
    if header.age != header.age:
        findings.append(Finding("info", "age-unknown", "Age is not given"))
    parts = [dataset, participant, session, f"run-{run}" if run else ""]
    return Scan(
        source=series.path,
        scan_id=slug("_".join(dict.fromkeys(p for p in parts if p))),
        participant_id=participant,
        session=session,
        run=run,
        dataset=dataset,
        sex=header.sex,
        age=header.age,
        findings=tuple(findings),
        series=series,
    )


def _participants(
    found: Sequence[Series], dataset: str, *, wrapped: bool
) -> Iterable[tuple[str, list[Series]]]:
    """Series by participant: those of one study together, and of one patient within a folder."""
    studies: dict[str, list[Series]] = {}
    for series in found:
        studies.setdefault(series.header.study or series.path.as_posix(), []).append(series)
    everything = [f.name for s in found for f in s.files]
    outer = len(common_folder(everything).parts) if wrapped else 0
    people: dict[tuple[str, str], list[Series]] = {}
    for members in studies.values():
        parts = common_folder(f.name for s in members for f in s.files).parts[outer:]
        top = parts[0] if parts else ""
        people.setdefault((top, members[0].header.person), []).extend(members)
    tops = [top for top, _ in people]
    for top, person in people:
        number = [p for t, p in people if t == top].index(person) + 1
        name = plain(top) or dataset
        yield (name if tops.count(top) == 1 else f"{name}-{number}"), people[top, person]


def _flagged(scans: Sequence[Scan]) -> list[Scan]:
    folders: dict[str, set[str]] = {}
    for scan in scans:
        if scan.series and scan.series.header.person:
            folders.setdefault(scan.series.header.person, set()).add(scan.participant_id)
    return [
        replace(s, findings=(*s.findings, SHARED))
        if s.series and len(folders.get(s.series.header.person, ())) > 1
        else s
        for s in scans
    ]


def _moment(person: Sequence[Series], study: str) -> tuple[str, str]:
    mine = [s for s in person if s.header.study == study]
    return min(s.header.moment for s in mine), mine[0].path.as_posix()


def _source_name(root: Path) -> str:
    path = root.resolve()
    if path.is_dir():
        return path.name
    return path.stem if is_archive(path) else path.parent.name
