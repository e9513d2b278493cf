"""A series of DICOM files that can become one scan."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from volta3d.prepare.dicom.files import Located, Opener
from volta3d.prepare.dicom.header import Frame, Header
from volta3d.prepare.findings import Finding

BLOCK = 2**20


@dataclass(frozen=True)
class Series:
    """One acquired volume: the planes of one series, one echo, one kind of picture.

    Args:
        frames: its planes, in the order of their file names.
        header: the facts of its first file.
        root: the source in which it was found.
        findings: what triage noticed.
    """

    frames: tuple[Frame, ...]
    header: Header
    root: Path
    findings: tuple[Finding, ...] = ()

    @property
    def files(self) -> tuple[Located, ...]:
        """Its files, each once, in the order of their names."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def path(self) -> Path:
        """The first of its files: what a table names it by."""
        return self.files[0].path

    @property
    def folder(self) -> PurePosixPath:
        """The folder that holds all its files, relative to the source."""
        return common_folder(file.name for file in self.files)

    @property
    def acquisition(self) -> dict[str, Any]:
        """How it was acquired; numbers in ms, degrees and tesla, unknown ones left out."""
        header = self.header
        known = {
            "manufacturer": header.manufacturer,
            "model": header.model,
            "field_strength": header.field_strength,
            "echo_time": self.frames[0].echo_time,
            "repetition_time": header.repetition_time,
            "inversion_time": header.inversion_time,
            "flip_angle": header.flip_angle,
            "contrast_agent": header.contrast,
        }
        return {k: v for k, v in known.items() if v != "" and not _unknown(v)}

    def sha256(self) -> str:
        """A hash of the contents of its files and of which planes are used, in whatever order.

        Raises:
            OSError, Refused: a file cannot be read.
        """
        with Opener() as opener:
            digests = {file: _digest(file, opener) for file in self.files}
        lines = sorted(f"{digests[f.file]} {f.index}" for f in self.frames)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def common_folder(names: Any) -> PurePosixPath:
    """The deepest folder that holds all of these relative paths."""
    parents = [PurePosixPath(name).parent.parts for name in names]
    shared = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return PurePosixPath(*shared)


def _unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _digest(file: Located, opener: Opener) -> str:
    digest = hashlib.sha256()
    with opener.open(file) as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
