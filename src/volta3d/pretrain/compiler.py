"""Whether torch.compile has what it needs here."""

from __future__ import annotations

import warnings

import torch


def compiles(device: str) -> bool:
    """Whether a small function compiles and runs; warns and says no where it doesn't.

    A backward pass is compiled when it is first needed, in the middle of a step: too late to do
    without.

    Args:
        device: as configured: auto, cpu or cuda.
    """
    cuda = device != "cpu" and torch.cuda.is_available()
    given = torch.ones(8, device="cuda" if cuda else "cpu", requires_grad=True)
    try:
        torch.compile(lambda x: (x.sin() + x.cos()).sum())(given).backward()
    except Exception as error:  # torch raises its own kinds, of its own version
        # without the trace that some of them carry
        said = str(error).strip().splitlines() or [""]
        warnings.warn(
            f"Nothing can be compiled here ({type(error).__name__}: {said[0][:120]}): compile=true "
            "does nothing. On a CPU it needs a C++ compiler, on a GPU Triton",
            stacklevel=2,
        )
        return False
    return True
