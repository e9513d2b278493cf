"""What the machine is and how fast it multiplies matrices."""

from __future__ import annotations

import platform
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from volta3d import __version__
from volta3d.config import PretrainConfig
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.precision import uses_bf16

EDGE = 1024  # of the matrices multiplied on a CPU
EDGE_CUDA = 8192
SECONDS = 0.3


def describe_machine(config: PretrainConfig) -> dict[str, Any]:
    """Processor, memory, disk, device and its measured matrix-product rate.

    Returns:
        ``flops_per_second`` is measured in the precision the run would use, ``precision``; sizes
        are in bytes.
    """
    device = build_fabric(config).device
    precision = "bf16" if uses_bf16(config.precision, device) else "fp32"
    memory = psutil.virtual_memory()
    found = {
        "volta3d": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        "threads": torch.get_num_threads(),
        "memory": memory.total,
        "memory_available": memory.available,
        "disk_free": shutil.disk_usage(Path.cwd()).free,
        "device": "cpu",
        "device_memory": None,
        "precision": precision,
        "flops_per_second": matrix_rate(device, precision),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "device_memory": properties.total_memory}
    return found


def matrix_rate(device: torch.device, precision: str) -> float:
    """FLOP per second of a large matrix product, the best of several."""
    edge = EDGE_CUDA if device.type == "cuda" else EDGE
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.ones(edge, edge, device=device, dtype=dtype) for _ in range(2))
    best, begun = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begun < SECONDS:
        synchronise(device)
        started = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * edge**3 / best


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock reads the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
