"""Preparation against MONAI's chain: time per core, accuracy, two workers, memory.

Run: python benchmarks/prepare.py [--out prepare.json] [--work DIR] [--tiny]

Both sides run in this process, in turn, on one thread. Times are CPU seconds (medians), so that
other work on the machine hardly counts; the wall clock's are printed too.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from big_scans import SHAPE, make_copies, make_huge, make_scan
from claims import alternate, claim, one_thread, parser, publish

from volta3d.cohort.contract import Contract
from volta3d.prepare.volume import prepare_scan

SIZE = 128
PERCENTILES = (0.05, 99.95)
FOREGROUND = 0.1  # of the range
SUBSAMPLES = 64  # per voxel and axis, of the reference


def monai_chain(size: int) -> Callable[[str], Any]:
    """MONAI's transforms for the same job."""
    from monai import transforms as t

    return t.Compose(
        [
            t.LoadImage(image_only=True),
            t.EnsureChannelFirst(),
            t.Orientation("RAS"),
            t.Spacing((1.0, 1.0, 1.0)),
            t.ScaleIntensityRangePercentiles(*PERCENTILES, 0, 1, clip=True),
            t.CropForeground(),
            t.Resize(size, size_mode="longest"),
            t.SpatialPad((size,) * 3),
        ]
    )


def reference(scan: Path, grid: np.ndarray, size: int) -> np.ndarray:
    """What an ideal resampling gives: each voxel the mean over its own volume, in float64.

    The scan is interpolated linearly and averaged over ``SUBSAMPLES``^3 points of every voxel of
    ``grid``: anti-aliasing by definition, and neither side's own filter.
    """
    image = nib.as_closest_canonical(nib.load(scan))
    data = np.asarray(image.dataobj, np.float64)
    low, high = np.percentile(data[data != 0], PERCENTILES)
    mapping = np.linalg.inv(image.affine) @ grid
    result = (data.clip(low, high) - low) / (high - low)
    offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    for axis, n in enumerate(data.shape):
        at = mapping[axis, axis] * (np.arange(size)[:, None] + offsets) + mapping[axis, 3]
        left = np.floor(at).astype(int)
        weights = np.zeros((size, n))
        for column, part in ((left, 1 - (at - left)), (left + 1, at - left)):
            inside = (column >= 0) & (column < n)
            rows = np.broadcast_to(np.arange(size)[:, None], column.shape)
            np.add.at(weights, (rows[inside], column[inside]), part[inside] / SUBSAMPLES)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return result


def error(volume: np.ndarray, scan: Path, grid: np.ndarray) -> float:
    """Mean absolute difference to the reference over the foreground, of the range."""
    ideal = reference(scan, grid, len(volume))
    inside = ideal > FOREGROUND
    return float(np.abs(volume - ideal)[inside].mean())


def against_monai(
    scan: Path, size: int, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Claims on speed and accuracy."""
    chain, contract = monai_chain(size), Contract(size=size, percentiles=PERCENTILES)
    times = alternate(
        {
            "ours": lambda: prepare_scan(scan, contract),
            "monai": lambda: chain(str(scan)),
        },
        repeats,
    )
    prepared, other = prepare_scan(scan, contract), chain(str(scan))
    ours = error(prepared.volume, scan, prepared.affine)
    theirs = error(other[0].numpy(), scan, other.affine.numpy())
    speed = times["monai"]["cpu"] / times["ours"]["cpu"]
    claims = [
        claim(
            f"one scan {'x'.join(map(str, nib.load(scan).shape))}, CPU seconds, one thread",
            times["ours"]["cpu"], times["monai"]["cpu"], speed,
            "at least 5 times MONAI", speed >= 5,
        ),
        claim(
            "mean absolute difference to the anti-aliased float64 reference, of the range",
            ours, theirs, ours / theirs, "at most .02, and not above MONAI",
            ours <= 0.02 and ours <= theirs,
        ),
    ]  # fmt: skip
    return claims, {"seconds": times}


def two_workers(scan: Path, work: Path, count: int, size: int) -> tuple[dict[str, Any], str]:
    """The claim on a whole cohort by one process and by two, and what start-up does to it."""
    bids, one = make_copies(scan, work / f"copies-{count}", count), work / "copies-1"
    make_copies(scan, one, 1)
    taken, cpu = {}, {}
    for name, folder, workers in (("start", one, 1), ("one", bids, 1), ("two", bids, 2)):
        out = work / f"cohort-{name}"
        shutil.rmtree(out, ignore_errors=True)
        begun, used = time.perf_counter(), children_seconds()
        subprocess.run(
            [sys.executable, "-m", "volta3d", "prepare", str(folder), "--out", str(out),
             "--workers", str(workers), "--set", f"size={size}"],
            check=True, capture_output=True,
        )  # fmt: skip
        taken[name] = time.perf_counter() - begun
        cpu[name] = children_seconds() - used
        shutil.rmtree(out)
    gain = taken["one"] / taken["two"]
    found = claim(
        f"a cohort of {count} scans, two workers against one, wall seconds",
        taken["two"], taken["one"], gain, "at least 1.8 times one", gain >= 1.8,
    )  # fmt: skip
    rest = [taken[name] - taken["start"] for name in ("one", "two")]
    reason = (
        f"Two workers: a call that prepares a single scan takes {taken['start']:.1f} s, which a "
        f"second worker doesn't shorten. Without it the {count} scans take {rest[0]:.1f} s by one "
        f"worker and {rest[1]:.1f} s by two ({rest[0] / rest[1]:.2f} times as fast). In CPU "
        f"seconds one worker needs {cpu['one']:.1f} and two {cpu['two']:.1f}: the difference is "
        "the second worker's own start, and what two cores that share their cache lose."
    )
    # on a busy machine only CPU seconds say what two free cores would give
    return found | {"cpu_seconds": {name: round(s, 2) for name, s in cpu.items()}}, reason


def children_seconds() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


CHILD = """
import sys
from pathlib import Path
from volta3d.cohort.contract import Contract
from volta3d.prepare.prepared_scan import make_prepared_scan
from volta3d.prepare.scan import Scan

def peak():  # of this process alone: what it began with as a copy of its parent doesn't count
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

pieces = Path(sys.argv[2])
scan, contract = Scan(Path(sys.argv[1]), "a", "a"), Contract(size=int(sys.argv[3]))
found = make_prepared_scan(scan, contract, pieces)
assert found.refused is None, found.refused
print(peak() * 1024)
"""


CASES = (("int16", False), ("int16", True), ("float32", True))  # type, whether oblique


def memory(
    scan: Path, work: Path, edge: int, size: int, cases: Sequence[tuple[str, bool]] = CASES
) -> list[dict[str, Any]]:
    """Claims on the peak of a worker's memory, on parallel and oblique grids."""
    claims = []
    for dtype, oblique in cases:
        slant = "oblique" if oblique else "parallel"
        huge = make_huge(work / f"huge-{edge}-{dtype}-{slant}.nii.gz", scan, edge, dtype, oblique)
        with tempfile.TemporaryDirectory(dir=work) as pieces:
            done = subprocess.run(
                [sys.executable, "-c", CHILD, str(huge), pieces, str(size)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        huge.unlink()
        peak = int(done.stdout) / 1e9
        claims.append(
            claim(
                f"peak memory of a worker, GB, {edge}^3 {dtype}, {slant} grid",
                peak,
                1.5,
                peak / 1.5,
                "under 1.5 GB",
                peak < 1.5,
            )
        )
    return claims


def main() -> None:
    """Measure everything and print it as JSON."""
    arguments = parser(__doc__).parse_args()
    one_thread()
    warnings.simplefilter("ignore")  # of the other side
    tiny = arguments.tiny
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        shape = (48, 48, 36) if tiny else SHAPE
        scan = make_scan(work / f"head-{shape[0]}.nii.gz", shape)
        size = 24 if tiny else SIZE
        claims, details = against_monai(scan, size, repeats=1 if tiny else 7)
        workers, reason = two_workers(scan, work, 3 if tiny else 48, size)
        claims.append(workers)
        claims += memory(scan, work, 64 if tiny else 512, size)
        publish("prepare", claims, arguments.out, reason=reason, **details)


if __name__ == "__main__":
    main()
