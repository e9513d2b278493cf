"""Label maps in a plain folder: which file is one, and of which scan."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from volta3d.prepare.file_names import LABEL_FOLDERS, is_label_name
from volta3d.prepare.findings import Finding
from volta3d.prepare.formats import NIFTI, READ, stem
from volta3d.prepare.scan import within

ENDINGS = ("_dseg", "_seg", "_label", "_labels", "_mask")
CHANNEL = re.compile(r"_\d{4}$")  # of nnU-Net's images
ALONE = Finding(
    "error",
    "label-map",
    "A label map, mask or probability map, which is no scan and belongs to none that has no other",
    "To use it, name it like its scan with _dseg at the end; else there is nothing to do",
)


def sorted_out(files: Iterable[Path], folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that may be scans, and label maps, by their names."""
    scans, labels = list[Path](), list[Path]()
    for file in files:
        (labels if is_label_name(file.relative_to(folder)) else scans).append(file)
    return scans, labels


class Labels:
    """The label maps of a folder, to be asked for that of a scan.

    Args:
        maps: their files.
        folder: the source.
    """

    def __init__(self, maps: Iterable[Path], folder: Path) -> None:
        inside = [path for path in maps if within(path, folder)]
        self._beside = {path: path for path in inside}
        self._apart: dict[str, list[Path]] = {}
        for path in inside:
            if path.parent.name.lower().replace("_", "") in LABEL_FOLDERS:
                self._apart.setdefault(stem(path), []).append(path)

    def of(self, scan: Path) -> Path | None:
        """The label map named like a scan with ``_dseg`` or the like, or in a folder of labels."""
        own = stem(scan)
        bases = list(dict.fromkeys([own, own.removesuffix("_T1w"), CHANNEL.sub("", own)]))
        for ending in ENDINGS:
            for base in bases:
                for suffix in (*NIFTI, *READ):
                    if (path := scan.with_name(base + ending + suffix)) in self._beside:
                        return path
        for name in [*bases, *(base + ending for ending in ENDINGS for base in bases)]:
            for path in self._apart.get(name, []):
                if path.parent.parent in (scan.parent.parent, scan.parent):
                    return path
        return None
