"""Files are published whole or not at all, and stay inside their folder."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from volta3d import files
from volta3d.errors import VoltaError
from volta3d.files import (
    atomic_file,
    atomic_folder,
    clean_partial,
    content_hash,
    inside,
    read_json,
    require_writable,
    sha256,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("there", [False, True], ids=["new", "replacing"])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "a.txt"
    if there:
        target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == (["a.txt"] if there else [])
    assert not there or target.read_text() == "old"


def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with atomic_folder(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as temporary:
        (temporary / "two").write_text("2")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["run"] and names(target) == ["one"]
    with atomic_folder(target) as temporary:
        (temporary / "three").write_text("3")
    assert names(tmp_path) == ["run"] and names(target) == ["three"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_F4_a_full_disk_is_one_paragraph_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write_text(tmp_path / "a.txt", "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, where, full)
    with pytest.raises(VoltaError, match=r"No space left.*Free some space"):
        write_text(tmp_path / "a.txt", "new")
    with pytest.raises(VoltaError, match="No space left"), atomic_folder(tmp_path / "f") as folder:
        (folder / "x").write_text("x")
    monkeypatch.undo()
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_data_reach_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (order.append("sync"), sync(fd))[1])
    monkeypatch.setattr(files.os, "replace", lambda a, b: (order.append("name"), replace(a, b))[1])
    write_text(tmp_path / "a", "x")
    assert order == ["sync", "name", "sync"]  # the file, its name, the folder that holds the name


def test_F3_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".partial-a-1234").write_text("half")
    (tmp_path / ".partial-b-1234").mkdir()
    (tmp_path / "kept").write_text("whole")
    assert sorted(clean_partial(tmp_path)) == [".partial-a-1234", ".partial-b-1234"]
    assert names(tmp_path) == ["kept"]


def test_a_link_among_the_leftovers_is_unlinked_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".partial-link").symlink_to(tmp_path / "mine")
    clean_partial(tmp_path / "work")
    assert names(tmp_path / "work") == [] and names(tmp_path / "mine") == ["precious"]


def test_F19_a_folder_that_cannot_be_made_fails_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VoltaError, match="Writing failed"):
        require_writable(tmp_path / "file" / "sub")
    require_writable(tmp_path / "new")
    assert names(tmp_path / "new") == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x"])
def test_paths_stay_inside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(VoltaError, match="leaves its folder"):
        inside(root, name)
    assert inside(root, "a/./b") == root.resolve() / "a" / "b"


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert read_json(tmp_path / "a.json") == {"a": [1.5, None], "b": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", {"x": float("nan")})
    assert names(tmp_path) == ["a.json"]
    (tmp_path / "bad.json").write_text("{" * 100_000)
    with pytest.raises(VoltaError, match="Not readable as JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(VoltaError, match="not found"):
        read_json(tmp_path / "none.json")


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1_000_000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_files_have_the_mode_the_user_asked_for_whoever_wrote_them(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("as any program would")
    mode = (tmp_path / "plain").stat().st_mode

    def secret(path: Path) -> None:
        path.touch(mode=0o600)

    with atomic_file(tmp_path / "a") as temporary:
        secret(temporary)
    with atomic_folder(tmp_path / "f") as folder:
        secret(folder / "x")
    assert (tmp_path / "a").stat().st_mode == mode
    assert (tmp_path / "f" / "x").stat().st_mode == mode
