"""Series whose every file has a SeriesInstanceUID of its own, put together by their other marks.

Some anonymisers, and some scanners (Canon), write a new UID into each file. Files of one folder,
patient, protocol and kind of picture, of the same size and orientation, are then one series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from volta3d.prepare.dicom.header import Frame, Header
from volta3d.prepare.dicom.series import common_folder
from volta3d.prepare.findings import Finding

LEAST = 3  # files that make a series; fewer may well be pictures of their own
Key = tuple[str, ...]
Group = tuple[list[Frame], dict[Header, None]]  # planes, and the headers that differ
REUNITED = Finding(
    "warning",
    "series-uid-per-slice",
    "Every file has a SeriesInstanceUID of its own (an anonymiser or the scanner wrote it); the "
    "files of one folder and protocol were taken as one series",
    "Check in qc/index.html that it is one whole head",
)


def reunited(groups: Mapping[Key, Group]) -> tuple[dict[Key, Group], set[Key]]:
    """Groups of planes, those of a single slice each joined where they belong together.

    Returns:
        The groups, and the keys of those that were joined.
    """
    together: dict[Key, list[Key]] = {}
    for key, (frames, headers) in groups.items():
        if len(frames) == 1 and len(headers) == 1:
            together.setdefault(_marks(frames[0], next(iter(headers))), []).append(key)
    joined, whole = set[Key](), dict(groups)
    for keys in together.values():
        if len(keys) < LEAST:
            continue
        frames = [frame for key in keys for frame in groups[key][0]]
        first = next(iter(groups[keys[0]][1]))
        shared = [replace(h, series=first.series) for key in keys for h in groups[key][1]]
        for key in keys:
            del whole[key]
        whole[keys[0]] = frames, dict.fromkeys(shared)
        joined.add(keys[0])
    return whole, joined


def _marks(frame: Frame, header: Header) -> Key:
    orientation = ",".join(f"{v:.3f}" for v in frame.orientation)
    size = f"{header.rows}x{header.columns}"
    folder = common_folder([frame.file.name]).as_posix()
    return folder, header.person, header.protocol, header.claims.part, size, orientation
