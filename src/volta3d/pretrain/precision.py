"""Whether networks run in bfloat16."""

from __future__ import annotations

import torch


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16; ``auto`` says so only where the hardware multiplies it.

    A CPU without bf16 instructions emulates them about a hundred times slower than fp32.

    Args:
        precision: fp32, bf16 or auto.
        device: where the network runs.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
