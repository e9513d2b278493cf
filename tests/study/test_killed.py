"""A study killed again and again comes to the same numbers as one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volta3d.files import read_json, sha256

TINY = Path(__file__).with_name("tiny.yaml")
KILLS = (1, 4, 6)  # jobs done when the process is killed


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "volta3d", "study", str(TINY), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(out: Path) -> None:
    process = start(out)
    _, stderr = process.communicate(timeout=280)
    assert process.returncode in (0, 3), stderr.decode()


def kill_when(out: Path, jobs: int) -> None:
    """SIGKILL as soon as so many jobs are done, in the middle of the next."""
    process = start(out)
    deadline = time.monotonic() + 200
    while len(list((out / "ledger").glob("*.json"))) < jobs:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def numbers(out: Path) -> dict[str, object]:
    """What a study came to, without the times."""
    encoders = {
        n: sha256(out / "encoders" / n / "encoder/model.safetensors") for n in ("volta", "less")
    }
    metrics = {n: read_json(out / "tasks" / n / "metrics.json") for n in ("sex", "hippocampus")}
    probes = {n: read_json(out / "features" / f"{n}-probes.json") for n in ("volta", "less")}
    return {"encoders": encoders, "metrics": metrics, "probes": probes}


@pytest.mark.slow
def test_R2_a_study_killed_three_times_has_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    finish(tmp_path / "whole")
    assert (tmp_path / "whole/tasks/hippocampus/figures/outlines.png").is_file()
    # over the scans of its own cohort, which is not the one the encoders were trained on
    assert list((tmp_path / "whole/report/viewer").glob("task2-*.html"))
    killed = tmp_path / "killed"
    for jobs in KILLS:
        kill_when(killed, jobs)
        assert not (killed / "report" / "index.html").exists()
    finish(killed)
    assert numbers(killed) == numbers(tmp_path / "whole")
    assert (killed / "report" / "index.html").is_file()
    before = {p: p.stat().st_mtime_ns for p in (killed / "ledger").glob("*.json")}
    finish(killed)  # nothing is left to do
    assert {p: p.stat().st_mtime_ns for p in (killed / "ledger").glob("*.json")} == before
