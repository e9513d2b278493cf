"""AdamW with weight decay where it belongs, and gradient clipping per parameter or overall."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from volta3d.config import OptimConfig
from volta3d.objective.schedules import Now


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW over every parameter that requires a gradient.

    Biases and one-dimensional tensors are not decayed (METHOD section 6).
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "decayed": True},
        {"params": [p for p in trained if p.ndim <= 1], "decayed": False, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1.0, betas=config.betas, fused=True)


def apply_schedule(optimizer: torch.optim.Optimizer, now: Now) -> None:
    """Set this step's learning rate and weight decay."""
    for group in optimizer.param_groups:
        group["lr"] = now.lr
        group["weight_decay"] = now.weight_decay if group["decayed"] else 0.0


def clip_gradients(parameters: list[nn.Parameter], limit: float, by: str) -> Tensor:
    """Scale gradients down to a norm of ``limit`` and return the norm over all before that.

    Args:
        limit: 0 leaves the gradients alone.
        by: "parameter" clips each tensor on its own (DINO), "global" all by one factor.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(list(torch._foreach_norm(gradients)))
    total = norms.square().sum().sqrt()
    if limit > 0:
        each = norms if by == "parameter" else total.expand_as(norms)
        factors = (limit / (each + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(factors.unbind()))
    return total
