"""Precision, device and processes: how Fabric is started."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from volta3d.config import PretrainConfig
from volta3d.errors import UsageError
from volta3d.pretrain.distributed import launched


class Autocast(MixedPrecision):
    """bf16 inside the network only: Fabric's own plugin would round the views, and with them the
    targets of the reconstruction, before the network sees them."""

    def convert_input(self, data: Any) -> Any:
        """The data as they are."""
        return data

    def convert_output(self, data: Any) -> Any:
        """The losses as they are, fp32 already."""
        return data


def uses_bf16(config: PretrainConfig, device: torch.device) -> bool:
    """Whether to train in bf16; ``auto`` says so only where the hardware multiplies it.

    A CPU without bf16 instructions emulates them about a hundred times slower than fp32.
    """
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def build_fabric(config: PretrainConfig) -> Fabric:
    """Fabric on the configured device, in the configured precision.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("No CUDA device is available", where="device", fix="Use device=auto")
    use_cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if use_cuda else "cpu")
    started = launched()
    bf16 = uses_bf16(config, device)
    together: dict[str, Any] = {}
    if started.here * started.machines > 1:
        # centres and statistics are the same everywhere already
        together["strategy"] = DDPStrategy(broadcast_buffers=False)
    return Fabric(
        accelerator=device.type,
        devices=started.here,
        num_nodes=started.machines,
        plugins=[Autocast("bf16-mixed", device.type)] if bf16 else None,
        precision=None if bf16 else "32-true",
        **together,
    )
