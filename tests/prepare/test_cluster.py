"""Preparation on a real Dask cluster on this machine: a scheduler and two workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.errors import UsageError, VoltaError
from volta3d.prepare import cluster, prepare
from volta3d.prepare.cluster import connect, on_cluster
from volta3d.prepare.prepared_scan import Outcome, make_prepared_scan
from volta3d.prepare.scan import Scan
from volta3d.prepare.task import Task

pytestmark = [
    pytest.mark.slow,
    # the client of a cluster on one machine notices that their clocks and sockets are shared
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The scheduler of a cluster with two workers of one thread each, ended afterwards."""
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("dask")
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    commands = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1],
         "--no-dashboard", "--no-jupyter"],
    ] + 2 * [
        [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1",
         "--local-directory", str(folder), "--memory-limit", "0"],
    ]  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log.txt").open("w"))
        children = []
        for command in commands:
            child = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **quiet}, stdout=log, stderr=log
            )
            children.append(child)
            stack.callback(end, child)
            if len(children) == 1:
                wait_for_port(int(address.rsplit(":", 1)[1]))
        with connect(address, wait=120) as client:
            client.wait_for_workers(2, timeout=120)
        yield address


def end(child: subprocess.Popen[bytes]) -> None:
    """Politely, so that a worker's nanny ends its worker; else for good."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_for_port(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the scheduler did not start")


def test_a_cluster_prepares_the_same_cohort(
    address: str, tmp_path: Path, bids: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PrepareConfig(size=16, spacing=3, scaling="nyul", percentiles=(0.5, 99.5))
    root = bids(4)
    (root / "sub-04/anat/sub-04_T1w.nii.gz").write_bytes(b"nothing")
    prepare([root], tmp_path / "here", config=config)
    monkeypatch.chdir(tmp_path)  # the workers stand elsewhere
    told: list[tuple[int, int]] = []
    result = prepare(
        [root.relative_to(tmp_path)], "there", dask=address, config=config,
        progress=lambda *n: told.append(n),
    )  # fmt: skip
    assert (result.prepared, result.quarantined, told[-1]) == (3, 1, (8, 8))
    here, there = Cohort.open(tmp_path / "here"), Cohort.open(tmp_path / "there")
    assert here.hash() == there.hash() and here.contract.landmarks == there.contract.landmarks
    assert all((here.volume(i) == there.volume(i)).all() for i in range(3))
    again = prepare([root], tmp_path / "there", dask=address, config=config)
    assert (again.prepared, again.skipped) == (0, 3)


def tasks(folder: Path, make: Callable[..., Outcome]) -> dict[int, Task]:
    found = {}
    for index, name in enumerate("abc"):
        (folder / f"{name}.nii").write_bytes(b"")
        scan = Scan(folder / f"{name}.nii", name, name)
        found[index] = Task(make, scan, Contract(size=16), folder)
    return found


def test_a_worker_that_writes_elsewhere_is_noticed(address: str, tmp_path: Path) -> None:
    def writes_elsewhere(*_: object) -> Outcome:  # within: the workers have no tests to import
        return Outcome("key", "sha", fresh=True)

    with connect(address) as client, pytest.raises(VoltaError, match="cannot see it"):
        list(on_cluster(client, tasks(tmp_path, writes_elsewhere)))


def test_F10_a_scan_that_ends_its_worker_is_quarantined(address: str, tmp_path: Path) -> None:
    def dies_on_one(scan: Scan, contract: Contract, pieces: Path, known: Container[str]) -> Outcome:
        if scan.scan_id == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return make_prepared_scan(scan, contract, pieces, known)

    with connect(address) as client:
        found = dict(on_cluster(client, tasks(tmp_path, dies_on_one)))
    codes = {i: f.refused.code for i, f in found.items() if f.refused is not None}
    # with no failure allowed, a scan that waited on the same worker may be taken along
    assert codes[1] == "worker-died" and set(codes) == {0, 1, 2}


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = connect(f"tcp://127.0.0.1:{free_port()}", wait=1)
    with pytest.raises(VoltaError, match="No Dask scheduler answers"), nowhere:
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"volta3d\[dask\]"), connect("tcp://127.0.0.1:1"):
        pass
    assert cluster.WAIT_S >= 10
