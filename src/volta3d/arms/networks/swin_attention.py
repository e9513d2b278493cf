"""Swin's window attention on processors, in cache and without what is thrown away.

MONAI's block writes the weights of all windows to memory several times over (375 maps of 343 x 343
for a cube of 64, in the first stage alone), and fills grids up to whole windows: a grid of 16 grows
to 21, more than twice as many tokens. This computes the same from the same parameters, group by
group (:mod:`.swin_windows`), keeps queries, keys and values alone, and makes the weights again in
the backward pass. Torch's fused attention can't be used: the relative position bias is learnt, and
its gradient isn't given there.

Shape legend: B scans, H heads, D channels of a head, C = H D, T tokens of the grid, K keys of all
groups, N tokens of a whole window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock, WindowAttention, get_window_size
from torch import Tensor, nn

from volta3d.arms.networks.swin_windows import Group, Plan, plan

IN_CACHE = 2**18  # weights of a few scans at a time: 1 MiB


class _Attend(torch.autograd.Function):
    """softmax(Q K' + bias) V within each group, in fp32."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, plan: Plan) -> Tensor:
        """q [H, B, T, D], k and v [H, B, K, D], bias [H, *window, *window] to [H, B, T, D]."""
        out = torch.empty_like(q)
        with torch.autocast(q.device.type, enabled=False):
            for group, head, scans, weights in _weights(q, k, bias, plan):
                own, seen = (head, scans, group.queries), (head, scans, group.keys)
                torch.bmm(weights, v[seen], out=out[own])
        ctx.save_for_backward(q, k, v, bias, out)
        ctx.plan = plan
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias, out = ctx.saved_tensors
        grad = grads[0].contiguous()
        dq, dk, dv = (torch.empty_like(t) for t in (q, k, v))  # each token is in one group
        dbias = torch.zeros_like(bias)
        inner = (grad * out).sum(-1, keepdim=True)  # [H, B, T, 1]
        with torch.autocast(q.device.type, enabled=False):
            for group, head, scans, weights in _weights(q, k, bias, ctx.plan):
                own, seen = (head, scans, group.queries), (head, scans, group.keys)
                torch.bmm(weights.mT, grad[own], out=dv[seen])
                scores = torch.bmm(grad[own], v[seen].mT).sub_(inner[own]).mul_(weights)
                torch.bmm(scores, k[seen], out=dq[own])
                torch.bmm(scores.mT, q[own], out=dk[seen])
                place = dbias[(head, *group.query_box, *group.key_box)]
                place += scores.sum(0).view(place.shape)
        return dq, dk, dv, dbias, None


def _weights(
    q: Tensor, k: Tensor, bias: Tensor, plan: Plan
) -> Iterator[tuple[Group, int, slice, Tensor]]:
    """Each group, head and few scans with their weights, valid until the next."""
    heads, batch = q.shape[:2]
    for group in plan.groups:
        rows, columns = (s.stop - s.start for s in (group.queries, group.keys))
        few = min(batch, max(1, IN_CACHE // (rows * columns)))
        scores, weights = (q.new_empty(few, rows, columns) for _ in range(2))
        for head in range(heads):
            near = bias[(head, *group.query_box, *group.key_box)].reshape(1, rows, columns)
            for start in range(0, batch, few):
                scans = slice(start, min(start + few, batch))
                n = scans.stop - start
                asked, seen = q[head, scans, group.queries], k[head, scans, group.keys]
                torch.baddbmm(near.expand(n, -1, -1), asked, seen.mT, out=scores[:n])
                yield group, head, scans, torch.softmax(scores[:n], -1, out=weights[:n])


class LeanSwinBlock(SwinTransformerBlock):
    """MONAI's block, with :class:`_Attend` where it is trained or used on a processor."""

    def forward_part1(self, x: Tensor, mask_matrix: Tensor | None) -> Tensor:
        """Norm and attention of tokens [B, X, Y, Z, C], the same shape; the mask is not needed."""
        if x.device.type != "cpu" or self.attn.attn_drop.p:
            told: Tensor = super().forward_part1(x, mask_matrix)
            return told
        attention: WindowAttention = self.attn
        grid = x.shape[1:4]
        window, shift = get_window_size(grid, self.window_size, self.shift_size)
        groups = plan(tuple(grid), tuple(window), tuple(shift))
        heads, channels = attention.num_heads, x.shape[-1]

        qkv = attention.qkv(self.norm1(x)).flatten(1, 3)  # [B, T, 3C]
        asked, seen = qkv[..., :channels], qkv[..., channels:]
        filler = attention.qkv.bias[channels:].to(qkv.dtype)  # what a token of zeros becomes
        seen = torch.cat([seen, filler.expand(len(x), 1, -1)], 1)
        q = _by_head(asked, groups.queries, heads) * attention.scale
        k, v = (_by_head(part, groups.keys, heads) for part in seen.split(channels, -1))
        attended = _Attend.apply(q, k, v, _bias(attention, window), groups)
        joined = attended.permute(1, 2, 0, 3).flatten(2).index_select(1, groups.places)
        projected: Tensor = attention.proj_drop(attention.proj(joined)).view(x.shape)
        return projected


def _by_head(tokens: Tensor, order: Tensor, heads: int) -> Tensor:
    """Tokens [B, T, C] in that order of K, by head in fp32: [H, B, K, D]."""
    taken: Tensor = tokens.index_select(1, order).unflatten(2, (heads, -1))
    return taken.permute(2, 0, 1, 3).float().contiguous()


def _bias(attention: WindowAttention, window: tuple[int, ...]) -> Tensor:
    """The relative position bias between all places of a window, [H, *window, *window]."""
    tokens = window[0] * window[1] * window[2]
    places: Any = attention.relative_position_index  # a buffer
    index = places[:tokens, :tokens].reshape(-1)
    table = attention.relative_position_bias_table.float().T.contiguous()  # [H, offsets]
    bias: Tensor = table.index_select(1, index).view(-1, *window, *window)
    return bias


def lean(network: nn.Module) -> nn.Module:
    """Let every Swin block of a network compute this way; parameters stay where they are."""
    for module in network.modules():
        if type(module) is SwinTransformerBlock:
            module.__class__ = LeanSwinBlock
    return network
