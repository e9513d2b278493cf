"""The whole of ``prepare``: killed and run again, on workers, with faults of single scans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.prepare import prepare, prepared_scan
from volta3d.prepare.findings import Finding
from volta3d.prepare.parallel import outcomes
from volta3d.prepare.prepared_scan import Outcome, make_prepared_scan
from volta3d.prepare.scan import Scan

SMALL = PrepareConfig(size=16, spacing=3)
Bids = Callable[..., Path]


def same_cohorts(first: Cohort, second: Cohort) -> None:
    """Equal in every byte that means something."""
    assert first.hash() == second.hash() and first.scan_ids == second.scan_ids
    for index in range(len(first)):
        np.testing.assert_array_equal(first.volume(index), second.volume(index))
        np.testing.assert_array_equal(first.affine(index), second.affine(index))
        mine, theirs = first.label(index), second.label(index)
        assert mine is not None and theirs is not None
        np.testing.assert_array_equal(mine, theirs)


SLOWED = """
import sys, time
from pathlib import Path
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare, prepared_scan

real = prepared_scan.prepare_source
def slowly(*args):
    found = real(*args)
    time.sleep(0.3)
    return found
prepared_scan.prepare_source = slowly
prepare([Path(sys.argv[1])], Path(sys.argv[2]), config=PrepareConfig(size=16, spacing=3))
"""


def finished(out: Path) -> list[str]:
    """The pieces that are complete."""
    return [p.name for p in (out / ".work/pieces").glob("*") if not p.name.startswith(".")]


@pytest.mark.parametrize("after", [1, 3])
def test_F20_killed_no_partial_scan_is_accepted_and_a_rerun_does_only_what_is_missing(
    tmp_path: Path, bids: Bids, after: int
) -> None:
    root, out = bids(5), tmp_path / "c"
    child = subprocess.Popen([sys.executable, "-c", SLOWED, str(root), str(out)])
    deadline = time.monotonic() + 120
    while len(finished(out)) < after and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = len(finished(out))
    assert after <= done < 5
    with pytest.raises(CohortError, match=r"run the same volta3d prepare command again"):
        Cohort.open(out)
    # as if it had died in the middle of writing a piece
    (out / ".work/pieces/.partial-abc-1234").mkdir()
    result = prepare([root], out, config=SMALL)
    assert (result.prepared, result.skipped) == (5 - done, done)
    assert not (out / ".work").exists()
    prepare([root], tmp_path / "whole", config=SMALL)
    same_cohorts(Cohort.open(out), Cohort.open(tmp_path / "whole"))


def test_a_rerun_does_nothing_and_a_new_scan_is_added(tmp_path: Path, bids: Bids) -> None:
    root, out = bids(3), tmp_path / "c"
    one = root / "sub-03/anat/sub-03_T1w.nii.gz"
    kept = one.read_bytes()
    one.unlink()
    assert prepare([root], out, config=SMALL).prepared == 2
    before = (out / "contract.yaml").stat().st_mtime_ns
    assert prepare([root], out, config=SMALL).skipped == 2
    assert (out / "contract.yaml").stat().st_mtime_ns == before
    one.write_bytes(kept)
    result = prepare([root], out, config=SMALL)
    assert (result.prepared, result.skipped) == (1, 2)


def test_progress_counts_every_scan_once(tmp_path: Path, bids: Bids) -> None:
    told: list[tuple[int, int]] = []
    prepare([bids(3)], tmp_path / "c", config=SMALL, progress=lambda *n: told.append(n))
    assert told == [(1, 3), (2, 3), (3, 3)]


def dies_on_two(scan: Scan, contract: Contract, pieces: Path, known: Container[str]) -> Outcome:
    """A worker that the system ends, as it does for want of memory."""
    if "sub-02" in scan.scan_id:
        os.kill(os.getpid(), signal.SIGKILL)
    return make_prepared_scan(scan, contract, pieces, known)


class Odd(Exception):
    """An exception of some library that does not survive the way between processes."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")


def odd_on_two(scan: Scan, contract: Contract, pieces: Path, known: Container[str]) -> Outcome:
    """A worker in which a library fails in a way of its own."""
    if "sub-02" not in scan.scan_id:
        return make_prepared_scan(scan, contract, pieces, known)
    odd = Odd(7, "the decoder\nis tired")
    with mock.patch.object(prepared_scan, "source_sha256", side_effect=odd):
        return make_prepared_scan(scan, contract, pieces, known)


@pytest.mark.slow
def test_F11_a_workers_odd_exception_keeps_its_scan(tmp_path: Path) -> None:
    scans = [Scan(tmp_path / f"sub-{k:02d}.nii", f"sub-{k:02d}", str(k)) for k in range(4)]
    for scan in scans:
        scan.source.write_bytes(b"")
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    found = dict(outcomes(scans, Contract(size=16), pieces, workers=2, make=odd_on_two))
    codes = [f.code for i in range(4) if (f := found[i].refused) is not None]
    assert codes == ["empty-file", "empty-file", "unforeseen", "empty-file"]
    odd = found[2].refused
    assert odd is not None and "Unforeseen Odd: the decoder is tired (7)" in odd.what


def test_F11_a_librarys_odd_exception_names_its_file_in_the_quarantine(
    tmp_path: Path, bids: Bids, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prepared_scan.prepare_source

    def failing(scan: Scan, *rest: Any) -> Any:
        if "sub-02" in scan.scan_id:
            raise Odd(7, "the decoder is tired")
        return real(scan, *rest)

    monkeypatch.setattr(prepared_scan, "prepare_source", failing)
    result = prepare([bids(3)], tmp_path / "c", config=SMALL)
    assert (result.prepared, result.quarantined) == (2, 1)
    row = Cohort.open(tmp_path / "c").quarantine.iloc[0]
    assert row["code"] == "unforeseen" and "the decoder is tired" in row["what"]
    assert "sub-02" in row["source"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_F10_a_scan_that_ends_its_worker_is_quarantined_alone(tmp_path: Path) -> None:
    scans = [Scan(tmp_path / f"sub-{k:02d}.nii", f"sub-{k:02d}", str(k)) for k in range(4)]
    for scan in scans:
        scan.source.write_bytes(b"")
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    contract = Contract(size=16)
    found = dict(outcomes(scans, contract, pieces, workers=2, make=dies_on_two))
    codes = [found[i].refused for i in range(4)]
    assert all(isinstance(finding, Finding) for finding in codes)
    wanted = ["empty-file", "empty-file", "worker-died", "empty-file"]
    assert [f.code for f in codes if f is not None] == wanted
