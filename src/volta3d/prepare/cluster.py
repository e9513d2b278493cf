"""Scans on a Dask cluster: the workers read the sources and write the pieces, all on shared disks.

Needs the extra ``dask``. Start one with ``dask scheduler`` and, on every machine,
``dask worker tcp://host:8786 --nworkers 8 --nthreads 1``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from volta3d.errors import UsageError, VoltaError
from volta3d.prepare.findings import Finding
from volta3d.prepare.prepared_scan import Outcome
from volta3d.prepare.task import Task

WAIT_S = 30.0  # for the scheduler, a worker, or the next scan before the workers are counted again
AHEAD = 3  # scans handed out per thread, so that no worker waits and no scheduler is flooded
SHARED = "Name sources and an --out folder on a file system that all workers share"
LOST = Finding(
    "error",
    "worker-died",
    "Every worker that was given this scan was ended, most likely for want of memory",
    "Prepare it with --workers 1 on a machine with more memory, or check the file",
)


@contextmanager
def connect(address: str, wait: float = WAIT_S) -> Iterator[Any]:
    """A client of the cluster at ``address``, e.g. ``tcp://host:8786``, with a worker at least.

    Raises:
        UsageError: ``distributed`` is not installed.
        VoltaError: no scheduler answers, or no worker has joined it.
    """
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "--dask needs distributed", fix="Install it with: pip install 'volta3d[dask]'"
        ) from error
    start = f"Start one with: dask scheduler, and then: dask worker {address} --nthreads 1"
    try:
        client = distributed.Client(address, timeout=wait, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise VoltaError("No Dask scheduler answers", where=address, fix=start) from error
    try:
        try:
            client.wait_for_workers(1, timeout=wait)
        except TimeoutError as error:
            raise VoltaError(
                "The Dask scheduler has no worker", where=address, fix=start
            ) from error
        yield client
    finally:
        client.close()


def on_cluster(
    client: Any, tasks: dict[int, Task], wait: float = WAIT_S
) -> Iterator[tuple[int, Outcome]]:
    """Run tasks on a cluster; yield (index, outcome) as they finish, in any order.

    A scan that ends its workers is quarantined, the others go on.

    Args:
        client: of ``connect``.
        tasks: by index.
        wait: seconds without news after which the workers are counted.

    Raises:
        VoltaError: a piece could not be written, a worker cannot run volta3d or doesn't share the
            folder, or all workers are gone.
    """
    from distributed import wait as wait_for

    left = iter(tasks.items())
    pending: dict[Any, tuple[int, Task]] = {}
    while True:
        while len(pending) < AHEAD * max(1, sum(client.nthreads().values())):
            index, task = next(left, (-1, None))
            if task is None:
                break
            key = f"scan-{index}-{uuid.uuid4().hex}"  # the default would show names and paths
            pending[client.submit(task, key=key, pure=False)] = (index, task)
        if not pending:
            return
        try:
            with client.as_current():
                done = wait_for(list(pending), timeout=wait, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            if not client.nthreads():
                raise VoltaError(
                    "All Dask workers are gone",
                    where=client.scheduler.address if client.scheduler else "",
                    fix="Start some and run the same command again; finished scans are kept",
                ) from None
            continue
        for future in done:
            index, task = pending.pop(future)
            yield index, _outcome(future, task)


def _outcome(future: Any, task: Task) -> Outcome:
    from distributed import KilledWorker

    try:
        outcome: Outcome = future.result()
    except KilledWorker:
        return Outcome(refused=LOST)
    except VoltaError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise VoltaError(
            f"A Dask worker failed: {type(error).__name__}: {error}",
            where=task.scan.source,
            fix="Install the same volta3d on every worker. " + SHARED,
        ) from error
    if not task.kept(outcome):
        raise VoltaError(
            "A worker wrote where this machine cannot see it", where=task.folder, fix=SHARED
        )
    return outcome
