"""The encoder of MONAI's AutoencoderKL: means of its latent code as tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

FOLD = 2  # latents along each axis that make one token


class LatentEncoder(nn.Module):
    """MONAI's ``AutoencoderKL`` as far as the means of the latents; without attention.

    A latent has few channels, so that 2³ neighbours make one token.

    Args:
        latents: channels of the code.
        blocks: residual blocks of each level.
        levels: how many there are; channels0, ...: their channels.
        groups: of the group norms.
    """

    def __init__(
        self, latents: int, blocks: int, levels: int, groups: int, **channels: int
    ) -> None:
        super().__init__()
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        self.width = latents * FOLD**3
        whole = AutoencoderKL(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            num_res_blocks=(blocks,) * levels,
            channels=tuple(channels[f"channels{i}"] for i in range(levels)),
            attention_levels=(False,) * levels,
            latent_channels=latents,
            norm_num_groups=groups,
            norm_eps=1e-6,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        self.encoder, self.quant_conv_mu = whole.encoder, whole.quant_conv_mu

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, S, S, S] to tokens [B, T, 8 L]."""
        code = self.quant_conv_mu(self.encoder(volumes))
        for axis in (2, 3, 4):
            code = code.unflatten(2 * axis - 2, (-1, FOLD))
        tokens: Tensor = code.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)
        return tokens


def sizes(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, int]) -> dict[str, int]:
    """The arguments of :class:`LatentEncoder`, from the shapes of its tensors.

    Raises:
        KeyError: a tensor is missing.
    """
    # the residual blocks come in levels, each but the last followed by a halving convolution
    residual = sorted(
        int(m.group(1))
        for k in shapes
        if (m := re.fullmatch(r"encoder\.blocks\.(\d+)\.conv1\.conv\.weight", k))
    )
    levels: list[list[int]] = []
    for place in residual:
        if not levels or place != levels[-1][-1] + 1:
            levels.append([])
        levels[-1].append(place)
    found = {
        "latents": shapes["quant_conv_mu.conv.weight"][0],
        "blocks": len(levels[0]),
        "levels": len(levels),
        "groups": options.get("groups", 32),
    }
    for i, places in enumerate(levels):
        found[f"channels{i}"] = shapes[f"encoder.blocks.{places[-1]}.conv2.conv.weight"][0]
    return found
