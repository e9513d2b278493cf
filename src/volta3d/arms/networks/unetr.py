"""UNETR from MONAI's own blocks around our encoder, for any patch of 2^n voxels.

MONAI's ``UNETR`` is built for patches of 16, twelve blocks and one size of crop. This one follows
the encoder it is given: n up-sampling steps for patches of 2^n, hidden states taken at k/n of the
depth (blocks 3, 6 and 9 of twelve, as there), and crops of any size the patch divides. With patches
of 16 and twelve blocks it computes what MONAI's computes from the same weights; a test shows it.

Shape legend: B batch, T tokens, W width, C classes, D H W voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from volta3d.errors import EncoderError
from volta3d.model.monai import to_unetr_vit
from volta3d.model.vit import Encoder

BLOCK: dict[str, Any] = {
    "spatial_dims": 3,
    "kernel_size": 3,
    "norm_name": "instance",
    "res_block": True,
}


class Unetr(nn.Module):
    """An encoder, and a decoder that brings its tokens back to voxels.

    Args:
        encoder: with patches of 2, 4, 8, 16 or 32.
        classes: C, background included.
        features: channels at full resolution, doubled at each step down (MONAI's feature_size).

    Raises:
        EncoderError: a patch that is no power of two, or fewer blocks than hidden states to take.
    """

    def __init__(self, encoder: Encoder, classes: int, features: int = 16) -> None:
        super().__init__()
        steps = encoder.patch_size.bit_length() - 1
        if encoder.patch_size < 2 or 2**steps != encoder.patch_size:
            raise EncoderError(
                f"A UNETR doubles its resolution step by step, so its patches have 2, 4, 8, 16 or "
                f"32 voxels an edge; this encoder's have {encoder.patch_size}",
                where="encoder",
                fix="Pretrain with model.patch_size=16 or 8",
            )
        if len(encoder.blocks) < steps - 1:
            raise EncoderError(
                f"A UNETR with patches of {encoder.patch_size} reads {steps - 1} hidden states, "
                f"this encoder has {len(encoder.blocks)} blocks",
                where="encoder",
                fix="Pretrain with a larger model.depth",
            )
        self.steps = steps
        self.encoder = encoder
        self.taps = [k * len(encoder.blocks) // steps for k in range(1, steps)]
        self.voxels = UnetrBasicBlock(
            in_channels=1, out_channels=features, stride=1, **BLOCK
        )  # MONAI's encoder1
        self.skips = nn.ModuleList(  # MONAI's encoder2, encoder3, encoder4
            UnetrPrUpBlock(
                in_channels=encoder.width,
                out_channels=features * 2**k,
                num_layer=steps - 1 - k,
                stride=1,
                upsample_kernel_size=2,
                conv_block=True,
                **BLOCK,
            )
            for k in range(1, steps)
        )
        self.ups = nn.ModuleList(  # MONAI's decoder5, decoder4, decoder3, decoder2
            UnetrUpBlock(
                in_channels=encoder.width if k == steps - 1 else features * 2 ** (k + 1),
                out_channels=features * 2**k,
                upsample_kernel_size=2,
                **BLOCK,
            )
            for k in reversed(range(steps))
        )
        self.out = UnetOutBlock(spatial_dims=3, in_channels=features, out_channels=classes)

    def forward(self, volumes: Tensor) -> Tensor:
        """Crops [B, 1, D, H, W] to logits [B, C, D, H, W].

        Raises:
            EncoderError: an edge is not a multiple of the patch size.
        """
        grid = self.encoder.patches.grid(volumes)
        states = self.encoder.hidden_states(volumes)

        def placed(tokens: Tensor) -> Tensor:
            cube: Tensor = tokens.transpose(1, 2).unflatten(2, grid)
            return cube

        skips = [self.voxels(volumes)]
        skips += [s(placed(states[t])) for s, t in zip(self.skips, self.taps, strict=True)]
        up = placed(self.encoder.norm(states[-1]))
        for block in self.ups:
            up = block(up, skips.pop())
        logits: Tensor = self.out(up)
        return logits

    def to_monai(self, image_size: int) -> dict[str, Tensor]:
        """The state dict that MONAI's ``UNETR`` of crops of ``image_size`` loads strictly.

        Raises:
            EncoderError: patches or depth that MONAI's doesn't have, or a size that isn't divided.
        """
        state = {f"vit.{k}": v for k, v in to_unetr_vit(self.encoder, image_size).items()}
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}
        return state | {_monai_name(k, self.steps): v.detach().clone() for k, v in own.items()}


def _monai_name(name: str, steps: int) -> str:
    part, _, rest = name.partition(".")
    if part == "voxels":
        return f"encoder1.{rest}"
    if part == "out":
        return name
    number, _, rest = rest.partition(".")
    place = int(number) + 2 if part == "skips" else steps + 1 - int(number)
    return f"{'encoder' if part == 'skips' else 'decoder'}{place}.{rest}"


def coarser(state: Mapping[str, Tensor], factor: int) -> dict[str, Tensor]:
    """An encoder that sees volumes pooled by ``factor``, as one with larger patches that sees all.

    Average pooling followed by the linear map of a patch is again a linear map of a patch, so this
    is exact: weight[w, i, j, k] becomes weight[w, i // f, j // f, k // f] / f^3.

    Args:
        state: of an ``Encoder`` with patches of p.
        factor: f.

    Returns:
        The state of an ``Encoder`` with patches of f p and the same grid of tokens.
    """
    weight = state["patches.projection.weight"]
    p = round(weight.shape[1] ** (1 / 3))
    cubes = weight.unflatten(1, (p, p, p))
    for axis in (1, 2, 3):
        cubes = torch.repeat_interleave(cubes, factor, dim=axis)
    return {**state, "patches.projection.weight": cubes.flatten(1) / factor**3}
