"""Device, processes and autocast: how Fabric is started."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from volta3d.config import PretrainConfig
from volta3d.errors import UsageError
from volta3d.pretrain.distributed import launched
from volta3d.pretrain.precision import uses_bf16


class Autocast(MixedPrecision):
    """bf16 inside the network only: Fabric's own plugin would round the views, and with them the
    targets of the reconstruction, before the network sees them."""

    def convert_input(self, data: Any) -> Any:
        """The data as they are."""
        return data

    def convert_output(self, data: Any) -> Any:
        """The losses as they are, fp32 already."""
        return data


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
    bf16 = uses_bf16(config.precision, device)
    together: dict[str, Any] = {}
    if started.here * started.machines > 1:
        # centres and statistics are the same everywhere already
        together["strategy"] = DDPStrategy(broadcast_buffers=False)
    plugins: list[Any] = [Autocast("bf16-mixed", device.type)] if bf16 else []
    if together and "RANK" in os.environ:
        # Fabric would recognise torchrun by other variables, and without them count ranks by itself
        plugins.append(TorchElasticEnvironment())
    return Fabric(
        accelerator=device.type,
        devices=started.here,
        num_nodes=started.machines,
        plugins=plugins or None,
        precision=None if bf16 else "32-true",
        **together,
    )
