"""Attention on a CPU takes another path in bf16 with gradients; it must be the same attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from volta3d.model.block import attend


def inputs(dtype: torch.dtype, *, grad: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 3, 11, 8, generator=generator).to(dtype).requires_grad_(grad)
        for _ in range(3)
    ]


def exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The textbook formula in fp64."""
    q, k, v = query.double(), key.double(), value.double()
    return ((q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5).softmax(-1) @ v


# bf16 keeps 8 bits: one rounding of values below 4 is off by at most 2^-7; a few add up
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=["fp32", "bf16"]
)
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_attention_equals_the_formula(dtype: torch.dtype, tolerance: float, grad: bool) -> None:
    given = inputs(dtype, grad=grad)
    found = attend(*given)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), exact(*given), atol=tolerance)
    if not grad:
        return
    found.float().square().sum().backward()
    reference = [x.detach().double().requires_grad_() for x in given]
    exact(*reference).square().sum().backward()
    for ours, theirs in zip(given, reference, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad.double(), theirs.grad, atol=3 * tolerance, rtol=0.05)


def test_the_plain_path_is_the_fused_kernel_s_equal() -> None:
    given = inputs(torch.bfloat16, grad=True)
    fused = functional.scaled_dot_product_attention(*given)
    assert torch.allclose(attend(*given).float(), fused.float(), atol=0.03)
