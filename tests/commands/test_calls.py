"""The command line: help, exit codes, and errors of one paragraph."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from volta3d import __version__
from volta3d.cli import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
Volta3d = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_example(command: str, tmp_path: Path, volta3d: Volta3d) -> None:
    shown = volta3d(command, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "Example: volta3d" in shown.stdout


def test_the_version_is_told_without_a_command(tmp_path: Path, volta3d: Volta3d) -> None:
    shown = volta3d("--version", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (0, f"volta3d {__version__}\n")


BAD_CALLS = [
    (["prepare", "nowhere", "--out", "c"], 1, "nowhere"),
    (["prepare", "empty", "--out", "c"], 1, "empty"),
    (["prepare", "empty", "--out", "c", "--set", "sise=64"], 2, "size"),
    (["prepare", "empty", "--out", "c", "--set", "size"], 2, "key=value"),
    (["pretrain", "nowhere", "--out", "r"], 1, "nowhere"),
    (["pretrain", "nowhere", "--out", "r", "--preset", "smal"], 2, "small"),
    (["pretrain", "nowhere", "--out", "r", "--set", "views.global_sise=3"], 2, "global_size"),
    (["embed", "nowhere", "nothing", "--out", "f.parquet"], 1, "nowhere"),
    (["probe", "nowhere", "nothing"], 1, "nowhere"),
    (["inspect", "nowhere"], 1, "nowhere"),
    (["report", "nowhere", "--out", "rep"], 1, "nowhere"),
    (["classify", "nowhere", "--target", "sex", "--arm", "a=volume", "--out", "r"], 1, "nowhere"),
    (
        ["classify", "c", "--target", "sex", "--arm", "a=volume", "--out", "r", "--set", "epoch=x"],
        2,
        "inner",
    ),
    (
        ["classify", "c", "--target", "t", "--arm", "a=swin", "--out", "r", "--fractions", ".2;1"],
        2,
        "commas",
    ),
    (["predict", "nowhere", "empty", "--out", "told"], 1, "nowhere"),
    (["evaluate", "nowhere"], 1, "nowhere"),
    (["doctor", "nowhere"], 1, "nowhere"),
    (["export", "nowhere", "--out", "o"], 1, "nowhere"),
]


@pytest.mark.parametrize(("call", "code", "word"), BAD_CALLS, ids=lambda v: str(v)[:60])
def test_O7_bad_input_is_one_paragraph_with_the_way_out(
    call: list[str], code: int, word: str, tmp_path: Path, volta3d: Volta3d
) -> None:
    (tmp_path / "empty").mkdir()
    done = volta3d(*call, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ") and word in lines[0]
    made = sorted(p.name for p in tmp_path.iterdir() if p.name not in ("empty", ".lock"))
    assert made == [], f"left behind: {made}"


def test_wrong_usage_exits_2(tmp_path: Path, volta3d: Volta3d) -> None:
    assert volta3d("prepare", cwd=tmp_path).returncode == 2
    assert volta3d("nonsense", cwd=tmp_path).returncode == 2


def test_O2_quarantine_exits_3_and_the_batch_goes_on(tmp_path: Path, volta3d: Volta3d) -> None:
    import nibabel as nib

    scans = tmp_path / "scans"
    scans.mkdir()
    ball = np.zeros((24, 24, 24), np.float32)
    ball[4:20, 4:20, 4:20] = np.random.default_rng(0).random((16, 16, 16)) + 0.5
    nib.save(nib.Nifti1Image(ball, np.diag([4.0, 4, 4, 1])), scans / "good.nii.gz")
    (scans / "broken.nii.gz").write_bytes(b"not a scan")
    done = volta3d("prepare", "scans", "--out", "c", "--set", "size=16", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "1 scans prepared" in done.stdout and "1 quarantined" in done.stdout
    assert "broken.nii.gz" in (tmp_path / "c" / "quarantine.tsv").read_text()


def test_a_process_ends_with_the_code_of_its_error(
    tmp_path: Path, child: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = child("inspect", "nowhere", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path, volta3d: Volta3d) -> None:
    done = volta3d("prepare", "nowhere", "--out", "c", "--debug", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr
