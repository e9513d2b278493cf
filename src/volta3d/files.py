"""Files on disk: published whole or not at all, checked, and kept inside their folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from volta3d.errors import VoltaError

TEMPORARY = ".partial-"
_UMASK = os.umask(0)  # can only be asked for by setting it
os.umask(_UMASK)
_FAILED = (OSError, SafetensorError)  # safetensors reports a full disk by its own error


def _share(path: Path) -> None:
    """Give a file the mode the user asked for; some libraries write their files for one user."""
    path.chmod(0o666 & ~_UMASK)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: Path) -> Path:
    return target.with_name(f"{TEMPORARY}{target.name}-{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success it becomes ``target``.

    The file is flushed to disk before the rename, so a reader finds the old file or the new one,
    never a part. On any exception the temporary file is removed and ``target`` is left alone.

    Raises:
        VoltaError: the disk is full or the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        yield temporary
        _share(temporary)
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    except _FAILED as error:
        raise write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target``; on success it is renamed to ``target``.

    An existing ``target`` is replaced. Every file is flushed to disk before the rename.

    Raises:
        VoltaError: the disk is full or the parent cannot be written.
    """
    temporary = _temporary(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file() and not path.is_symlink():
                _share(path)
            _sync(path)
        _sync(temporary)
        if target.exists():
            old = _temporary(target)
            os.replace(target, old)
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(old, target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, target)
        _sync(target.parent)
    except _FAILED as error:
        raise write_error(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_error(target: Path, error: OSError | SafetensorError) -> VoltaError:
    """The user's paragraph for a write that failed."""
    return VoltaError(
        f"Writing failed: {getattr(error, 'strerror', None) or error}",
        where=target,
        fix="Free some space or name another folder with --out; nothing partial was left behind",
    )


def write_text(target: Path, text: str) -> None:
    """Publish ``text`` atomically as UTF-8."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Any) -> None:
    """Publish ``content`` atomically as indented JSON with sorted keys; NaN is refused."""
    write_text(target, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        VoltaError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VoltaError("File not found", where=path, fix="Check the path") from error
    except (OSError, ValueError, RecursionError) as error:
        raise VoltaError(f"Not readable as JSON: {error}", where=path, fix="Restore it") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(content: Any) -> str:
    """A short hash of JSON-like content, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, default=str, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def inside(folder: Path, name: str) -> Path:
    """``folder/name``, refused if it would leave the folder.

    Raises:
        VoltaError: ``name`` is absolute, climbs out with ``..``, or passes through a link.
    """
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise VoltaError("A path leaves its folder", where=name, fix="Rename or remove that entry")
    return path


def clean_partial(folder: Path) -> list[str]:
    """Remove temporary files and folders a killed process left in ``folder``; return names."""
    removed = []
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path.name)
    return removed


def require_writable(folder: Path) -> None:
    """Make sure ``folder`` can be written before any work starts.

    Raises:
        VoltaError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{TEMPORARY}probe-{uuid.uuid4().hex[:8]}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise write_error(folder, error) from error
