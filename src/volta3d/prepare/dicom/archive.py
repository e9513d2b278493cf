"""Zip archives from strangers: judged by their directory before a single byte is unpacked.

Nothing is ever written under a name an archive proposes; entries are read as streams.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from volta3d.prepare.findings import Finding, Refused

MAX_ENTRIES = 500_000
MAX_TOTAL = 64 * 2**30  # bytes unpacked, of a whole archive
MAX_ENTRY = 4 * 2**30
MAX_RATIO = 200  # of a whole archive, and of an entry large enough to matter
SMALL = 2**24  # an entry up to here may have any ratio: an empty slice packs 1000 to 1
UNSAFE = Finding(
    "error",
    "unsafe-entry",
    "An archive entry that is a link, a device, encrypted, or leaves the archive was not read",
    "Pack the files themselves, by relative names and without a password",
)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip by its content."""
    return path.is_file() and zipfile.is_zipfile(path)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip after its directory has been judged.

    Raises:
        Refused: not a zip, damaged, or a bomb.
    """
    fix = "Pack the scans again"
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        what = f"The archive cannot be opened ({type(error).__name__})"
        raise Refused("bad-archive", what, fix) from error
    try:
        _judge(archive.infolist(), path.stat().st_size)
    except BaseException:
        archive.close()
        raise
    return archive


def _judge(entries: list[zipfile.ZipInfo], size: int) -> None:
    total, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    large = [e for e in entries if e.file_size > SMALL]
    if (
        len(entries) > MAX_ENTRIES
        or total > MAX_TOTAL
        or any(e.file_size > MAX_ENTRY for e in entries)
    ):
        what = f"The archive would unpack to {len(entries)} files of {total} bytes"
    elif packed > size:
        what = "The archive's entries overlap, as in a bomb"
    elif total > SMALL and total > MAX_RATIO * size:
        what = f"The archive would unpack to {total // max(size, 1)} times its size"
    elif any(e.file_size > MAX_RATIO * max(e.compress_size, 1) for e in large):
        what = f"An entry of the archive would unpack to more than {MAX_RATIO} times its size"
    else:
        return
    raise Refused("archive-bomb", what, "Unpack it yourself and give the folder, if you trust it")


def is_safe(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a plain file inside the archive's own tree."""
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    inside = not (
        name.startswith(("/", "\\"))
        or name[1:2] == ":"
        or "\0" in name
        or ".." in PurePosixPath(name.replace("\\", "/")).parts
    )
    return inside and kind in (0, stat.S_IFREG) and not entry.flag_bits & 0x1
