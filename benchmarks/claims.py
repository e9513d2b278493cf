"""What a benchmark states, beside what it was measured against, and on which machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from volta3d.files import write_json

CPU = torch.device("cpu")


def claim(
    what: str, ours: float, reference: float, ratio: float, wanted: str, met: bool | None
) -> dict[str, Any]:
    """One statement. ``wanted`` says what the ratio, or our figure, should be.

    ``met`` is None where nothing is wanted and the figure only stands beside others.
    """
    shown = [float(f"{value:.4g}") for value in (ours, reference, ratio)]
    return dict(zip(("ours", "reference", "ratio"), shown, strict=True)) | {
        "what": what,
        "wanted": wanted,
        "met": met,
    }


def machine(device: torch.device = CPU) -> dict[str, Any]:
    """The machine and how busy it was, which tells how far to trust a time; commit and day."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    return {
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "commit": commit or "unknown",
        "day": datetime.now(UTC).date().isoformat(),
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": [round(value, 1) for value in psutil.getloadavg()],
        "python": platform.python_version(),
    }


def alternate(
    sides: Mapping[str, Callable[[], object]], repeats: int, device: torch.device = CPU
) -> dict[str, dict[str, float]]:
    """Median seconds of each side, run in turn after one round to warm up.

    ``cpu`` counts the processor's time of this process, which a busy machine changes little;
    ``wall`` is what a clock on the wall says, on a GPU from when it is idle to when it is again.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            settled(device)
            cpu, wall = time.process_time(), time.perf_counter()
            side()
            settled(device)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if turn:
                taken[name].append((cpu, wall))
    return {
        name: {
            "cpu": statistics.median(cpu for cpu, _ in times),
            "wall": statistics.median(wall for _, wall in times),
        }
        for name, times in taken.items()
    }


def settled(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> str:
    """Which of the seconds of ``alternate`` count: a GPU's work takes no processor time."""
    return "wall" if device.type == "cuda" else "cpu"


def said(device: torch.device) -> str:
    """The unit of a line."""
    return "seconds" if device.type == "cuda" else "CPU seconds"


def parser(about: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark of preparation takes."""
    given = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    given.add_argument("--out", type=Path, help="also write the JSON there")
    given.add_argument("--work", type=Path, help="a folder for scans, kept for the next time")
    given.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    return given


def with_device(given: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The argument of benchmarks that run on a GPU as well."""
    given.add_argument("--device", type=torch.device, default=CPU, help="cpu or cuda")
    return given


def publish(
    name: str,
    claims: list[dict[str, Any]],
    out: Path | None,
    device: torch.device = CPU,
    **details: Any,
) -> dict[str, Any]:
    """Print the result as one JSON object, and write it where ``--out`` says."""
    result = {"name": name, "claims": claims, "machine": machine(device), **details}
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
    if out is not None:
        write_json(out, result)
    return result


def one_thread() -> None:
    """Keep this process and its children to one thread of computing each."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    torch.set_num_threads(1)
