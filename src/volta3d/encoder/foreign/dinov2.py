"""DINOv2's vision transformer on volumes: CLS token, registers, LayerScale.

Shape legend: B batch, T patches in order D, H, W, P prefix tokens (CLS first, then registers),
W width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

EPSILON = 1e-6  # of its LayerNorms
HEAD = 64  # channels of a head


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        split = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(*split.unbind(0))
        attended: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return attended


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        after: Tensor = self.fc2(gelu(self.fc1(tokens)))
        return after


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = _Attention(width, heads)
        self.ls1 = _Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = _Mlp(width, hidden)
        self.ls2 = _Scale(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        after: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return after


class _Patches(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, width, patch, patch)

    def forward(self, volumes: Tensor) -> Tensor:
        tokens: Tensor = self.proj(volumes).flatten(2).transpose(1, 2)
        return tokens


class Dinov2(nn.Module):
    """The teacher's backbone.

    Args:
        edge: patches along an axis, for which positions were learned.
        patch: edge of a patch, in voxels.
        width, depth, heads, hidden: of the transformer.
        registers: tokens between the CLS token and the patches.
    """

    def __init__(
        self, edge: int, patch: int, width: int, depth: int, heads: int, hidden: int, registers: int
    ) -> None:
        super().__init__()
        self.width, self.prefix = width, 1 + registers
        self.patch_embed = _Patches(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + edge**3, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.blocks = nn.ModuleList(_Block(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, S, S, S] to normalised tokens [B, P + T, W]."""
        patches = self.patch_embed(volumes) + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(volumes), -1, -1)
        registers = [self.register_tokens.expand(len(volumes), -1, -1)] if self.prefix > 1 else []
        tokens = torch.cat([first, *registers, patches], 1)
        for block in self.blocks:
            tokens = block(tokens)
        normalised: Tensor = self.norm(tokens)
        return normalised


def sizes(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, int]) -> dict[str, int]:
    """The arguments of :class:`Dinov2`, from the shapes of its tensors.

    Raises:
        KeyError: a tensor is missing.
    """
    width, _, patch, *_ = shapes["patch_embed.proj.weight"]
    registers = shapes.get("register_tokens", (1, 0, width))[1]
    return {
        "edge": round((shapes["pos_embed"][1] - 1) ** (1 / 3)),
        "patch": patch,
        "width": width,
        "depth": sum(bool(re.fullmatch(r"blocks\.\d+\.norm1\.weight", k)) for k in shapes),
        "heads": options.get("heads", width // HEAD),
        "hidden": shapes["blocks.0.mlp.fc1.weight"][0],
        "registers": registers,
    }
