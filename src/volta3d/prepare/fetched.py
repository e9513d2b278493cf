"""Files whose content is elsewhere: git-annex, git-lfs, links to nothing, failed downloads."""

from __future__ import annotations

import os
from pathlib import Path

from volta3d.prepare.findings import Finding

LFS = b"version https://git-lfs.github.com/spec/"
ANNEX = (b"/annex/objects/", b".git/annex/objects/")
ANNEXED = Finding(
    "error",
    "not-fetched",
    "Only a pointer of git-annex: the content of the file was not fetched",
    "Fetch it with: datalad get FILE, or: git annex get FILE",
)
LARGE = Finding(
    "error",
    "not-fetched",
    "Only a pointer of git-lfs: the content of the file was not fetched",
    "Fetch it with: git lfs pull",
)
WEB_PAGE = Finding(
    "error",
    "bad-magic",
    "A web page under the name of another file: its download failed, perhaps for want of a login",
    "Download the file again",
)
NOWHERE = Finding(
    "error",
    "broken-link",
    "A link to a file that isn't there",
    "Restore the file that it links to, or delete the link",
)


def missing_content(path: Path) -> Finding | None:
    """Why a file's name is there but its content isn't; None for an ordinary file."""
    try:
        if path.is_symlink() and not path.exists():
            target = os.fsencode(path.readlink().as_posix())
            return ANNEXED if any(part in target for part in ANNEX) else NOWHERE
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return pointer(file.read(256))
    except OSError:
        return None


def pointer(head: bytes) -> Finding | None:
    """What the first bytes of a file say about content that is elsewhere."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(LFS):
        return LARGE
    if any(start.split(b"\n")[0].find(part) in range(64) for part in ANNEX) and b"\0" not in head:
        return ANNEXED
    if start[:14].lower() == b"<!doctype html" or start[:5].lower() == b"<html":
        return WEB_PAGE
    return None
