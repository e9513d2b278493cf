"""Find DICOM files in a folder or an archive by their content, whatever they are called."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from volta3d.prepare.dicom.archive import UNSAFE, is_archive, is_safe, open_archive
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.scan import LINK_OUT, within

HEAD = 4096  # bytes that decide whether a file is DICOM
BUFFER = 2**16
NOT_DICOM = (".nii", ".nii.gz", ".json", ".tsv", ".csv")  # not looked into just to detect a layout


@dataclass(frozen=True, slots=True)
class Located:
    """A file, or an entry of an archive.

    Args:
        container: the file, or the archive.
        name: path relative to the source, for people; never opened.
        entry: number of the entry in the archive, -1 for a file.
    """

    container: Path
    name: str
    entry: int = -1

    @property
    def path(self) -> Path:
        """What a table says about where it came from."""
        return self.container if self.entry < 0 else self.container / self.name


class Opener:
    """Opens located files; an archive is opened and judged once."""

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stack.close()

    def archive(self, path: Path) -> zipfile.ZipFile:
        """The archive at ``path``.

        Raises:
            Refused: it is damaged or a bomb.
        """
        if path not in self._archives:
            self._archives[path] = self._stack.enter_context(closing(open_archive(path)))
        return self._archives[path]

    def open(self, located: Located) -> BinaryIO:
        """A readable, seekable stream.

        Raises:
            Refused: an entry that cannot be unpacked.
            OSError: a file that cannot be opened.
        """
        if located.entry < 0:
            return located.container.open("rb")
        archive = self.archive(located.container)
        try:
            stream = archive.open(archive.infolist()[located.entry])
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, IndexError) as error:
            raise Refused("bad-archive", "An entry is damaged", "Pack the scans again") from error
        return io.BufferedReader(stream, BUFFER)  # type: ignore[type-var]


@dataclass
class Found:
    """DICOM files of a source, and what else was there.

    Args:
        files: DICOM files in the order of their names.
        refused: what could not be looked into, with the reason.
        strays: how many other files there were.
    """

    files: list[Located] = field(default_factory=list)
    refused: list[tuple[Path, Finding]] = field(default_factory=list)
    strays: int = 0


def find(root: Path, opener: Opener) -> Found:
    """All DICOM files of a folder, an archive, or the one file given.

    Links that leave the folder are not followed; a DICOMDIR is never consulted; archives inside
    a folder are strays, like everything else that is not DICOM.
    """
    found = Found()
    try:
        candidates = _entries(root, opener, found) if is_archive(root) else _files(root, found)
        for located in candidates:
            try:
                with opener.open(located) as stream:
                    known = is_dicom(stream.read(HEAD))
            except OSError:
                finding = Finding("error", "unreadable", "Cannot be read", "Restore the file")
                found.refused.append((located.path, finding))
            except Refused as error:
                found.refused.append((located.path, error.finding))
            except (zipfile.BadZipFile, EOFError, ValueError):
                finding = Finding("error", "bad-archive", "An entry is damaged", "Pack it again")
                found.refused.append((located.path, finding))
            else:
                if known:
                    found.files.append(located)
                else:
                    found.strays += 1
    except Refused as error:
        found.refused.append((root, error.finding))
    return found


def any_dicom(root: Path) -> bool:
    """Whether a source holds at least one DICOM file; stops at the first."""
    with Opener() as opener:
        try:
            if is_archive(root):
                return True  # an archive can be nothing else here; ``find`` says what is wrong
            files = (f for f in _files(root, Found()) if not f.name.lower().endswith(NOT_DICOM))
            return any(is_dicom(_head(file, opener)) for file in files)
        except Refused:
            return False


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file are those of DICOM, with or without a preamble."""
    if head[128:132] == b"DICM":
        return True
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if len(head) < 64 or group not in (2, 8) or element > 0x20:
        return False
    explicit = head[4:6] in (b"UL", b"UI", b"CS", b"OB", b"SH", b"DA", b"TM")
    return explicit or int.from_bytes(head[4:8], "little") <= 64


def _head(located: Located, opener: Opener) -> bytes:
    try:
        with opener.open(located) as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def _files(root: Path, found: Found) -> Iterator[Located]:
    if root.is_file():
        yield Located(root, root.name)
        return
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names + [f for f in folders if (Path(folder) / f).is_symlink()]):
            path = Path(folder) / name
            if not within(path, root):
                found.refused.append((path, LINK_OUT))
            elif stat.S_ISREG(_mode(path)):
                yield Located(path, path.relative_to(root).as_posix())
            elif not path.is_dir():
                found.strays += 1


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _entries(root: Path, opener: Opener, found: Found) -> Iterator[Located]:
    entries = opener.archive(root).infolist()
    for number in sorted(range(len(entries)), key=lambda n: entries[n].filename):
        entry = entries[number]
        if not is_safe(entry):
            found.refused.append((root, UNSAFE))
        elif not entry.is_dir():
            yield Located(root, entry.filename, number)
