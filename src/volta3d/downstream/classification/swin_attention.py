"""Swin's window attention on processors, one window and head at a time so that it stays in cache.

MONAI's layer writes the weights of all windows to memory several times over (375 maps of 343 x 343
for a cube of 64, in the first stage alone), and nearly all of its time on a processor goes there.
This computes the same from the same parameters, keeps queries, keys and values alone, and makes the
weights again in the backward pass. Torch's fused attention can't be used: the relative position
bias is learnt, and its gradient isn't given there.

Shape legend: W windows of all scans, H heads, N tokens of a window, D channels of a head, M windows
of one scan.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.swin_unetr import WindowAttention
from torch import Tensor, nn


class _Attend(torch.autograd.Function):
    """softmax(Q K' + bias + mask) V, per window and head, in fp32."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None
    ) -> Tensor:
        out = torch.empty_like(q)
        with torch.autocast(q.device.type, enabled=False):
            for window, head, weights in _weights(q, k, bias, mask):
                torch.mm(weights, v[window, head], out=out[window, head])
        ctx.save_for_backward(q, k, v, bias, mask, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias, mask, out = ctx.saved_tensors
        grad = grads[0].contiguous()
        dq, dk, dv, dbias = (torch.zeros_like(t) for t in (q, k, v, bias))
        inner = (grad * out).sum(-1, keepdim=True)  # [W, H, N, 1]
        with torch.autocast(q.device.type, enabled=False):
            for window, head, weights in _weights(q, k, bias, mask):
                at = window, head
                torch.mm(weights.T, grad[at], out=dv[at])
                scores = torch.mm(grad[at], v[at].T).sub_(inner[at]).mul_(weights)
                torch.mm(scores, k[at], out=dq[at])
                torch.mm(scores.T, q[at], out=dk[at])
                dbias[head] += scores
        return dq, dk, dv, dbias, None


def _weights(q: Tensor, k: Tensor, bias: Tensor, mask: Tensor | None) -> Any:
    """For each window and head: their numbers and the weights [N, N], valid until the next."""
    windows, heads, tokens, _ = q.shape
    scores, weights = (q.new_empty(tokens, tokens) for _ in range(2))
    masked = mask.flatten(1).any(1).tolist() if mask is not None else [False]
    for window in range(windows):
        own = window % len(masked)
        for head in range(heads):
            torch.addmm(bias[head], q[window, head], k[window, head].T, out=scores)
            if mask is not None and masked[own]:
                scores += mask[own]
            yield window, head, torch.softmax(scores, -1, out=weights)


class LeanWindowAttention(WindowAttention):
    """MONAI's layer, with :class:`_Attend` where it is trained or used on a processor."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows [W, N, C] and masks [M, N, N] to [W, N, C]."""
        if x.device.type != "cpu" or self.attn_drop.p:
            told: Tensor = super().forward(x, mask)
            return told
        windows, tokens, channels = x.shape
        qkv = self.qkv(x).float().unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = (part.contiguous() for part in qkv)
        places: Any = self.relative_position_index  # a buffer
        index = places[:tokens, :tokens].reshape(-1)
        bias = self.relative_position_bias_table[index].float()
        bias = bias.unflatten(0, (tokens, tokens)).permute(2, 0, 1).contiguous()
        attended = _Attend.apply(q * self.scale, k, v, bias, mask)
        joined = attended.transpose(1, 2).reshape(windows, tokens, channels)
        projected: Tensor = self.proj_drop(self.proj(joined))
        return projected


def lean(network: nn.Module) -> nn.Module:
    """Let every window attention of a network compute this way; parameters stay where they are."""
    for module in network.modules():
        if type(module) is WindowAttention:
            module.__class__ = LeanWindowAttention
    return network
