"""The ledger: each job once, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volta3d.errors import VoltaError
from volta3d.ledger import Ledger, safe_name

WORKER = """
import sys, time
from pathlib import Path
from volta3d.ledger import Ledger
ledger, log = Ledger(sys.argv[1]), Path(sys.argv[2])
for number in range(12):
    with ledger.claim(f"job {number}") as mine:
        if mine:
            with log.open("a") as file:
                file.write(f"{number}\\n")
            time.sleep(0.01)
            ledger.finish(f"job {number}", {"square": number**2})
"""
HOLDER = """
import sys, time
from volta3d.ledger import Ledger
with Ledger(sys.argv[1]).claim("long") as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_job_is_claimed_finished_and_then_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "jobs")
    assert ledger.record("a/b") is None
    with ledger.claim("a/b") as mine:
        assert mine
        ledger.finish("a/b", {"score": 0.5})
    assert ledger.record("a/b") == {"score": 0.5}
    with ledger.claim("a/b") as mine:
        assert not mine
    assert ledger.done(["a/b", "c"]) == ["a/b"] and ledger.left(["a/b", "c"]) == ["c"]
    assert Ledger(tmp_path / "jobs").record("a/b") == {"score": 0.5}  # on disk, not in memory


def test_a_claim_without_finish_leaves_the_job_to_the_next(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with pytest.raises(RuntimeError), ledger.claim("a"):
        raise RuntimeError("fell over")
    with ledger.claim("a") as mine:
        assert mine


def test_two_claims_at_once_give_it_to_one(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path), Ledger(tmp_path)
    with first.claim("a") as mine, second.claim("a") as other:
        assert mine and not other


def test_F17_a_killed_process_frees_its_job(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    ledger = Ledger(tmp_path)
    with ledger.claim("long") as mine:
        assert not mine
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with ledger.claim("long") as mine:
        assert mine


def test_several_processes_do_each_job_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = [sys.executable, "-c", WORKER, str(tmp_path / "jobs"), str(log)]
    workers = [subprocess.Popen(run) for _ in range(3)]
    deadline = time.monotonic() + 60
    assert [w.wait(timeout=deadline - time.monotonic()) for w in workers] == [0, 0, 0]
    # a worker that finds a job held moves on, so a last pass alone makes sure that all are done
    subprocess.run(run, check=True)
    assert sorted(map(int, log.read_text().split())) == list(range(12))
    assert Ledger(tmp_path / "jobs").record("job 5") == {"square": 25}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"job": "another", "record": {}}', '{"job": "a"}']
)
def test_a_damaged_record_counts_as_not_done(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / f"{safe_name('a')}.json").write_text(text)
    assert ledger.record("a") is None


def test_what_a_killed_write_left_is_no_record(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (tmp_path / f".partial-{safe_name('a')}.json-12345678").write_text('{"job": "a"')
    assert ledger.left(["a"]) == ["a"]
    assert len(ledger.clean()) == 1 and ledger.clean() == []


def test_names_stay_in_the_folder_and_differ(tmp_path: Path) -> None:
    jobs = ["../../etc", "a/b", "a-b", "A/b", "x" * 300, "", "ä", "x" * 301]
    names = [safe_name(job) for job in jobs]
    assert len({name.casefold() for name in names}) == len(jobs)
    assert all("/" not in name and not name.startswith(".") for name in names)
    assert max(map(len, names)) < 120
    ledger = Ledger(tmp_path / "in")
    ledger.finish("../../etc", {})
    assert [p.parent.name for p in tmp_path.rglob("*.json")] == ["in"]


def test_a_record_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Ledger(tmp_path).finish("a", {"score": float("nan")})
    assert Ledger(tmp_path).record("a") is None


def test_an_unwritable_folder_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VoltaError, match="Writing failed"):
        Ledger(tmp_path / "file" / "jobs")


def test_a_record_is_plain_json(tmp_path: Path) -> None:
    Ledger(tmp_path).finish("a", {"n": 1})
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text()) == {"job": "a", "record": {"n": 1}}
