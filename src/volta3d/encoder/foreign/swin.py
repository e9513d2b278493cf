"""The Swin transformer inside MONAI's SwinUNETR: its last feature map as tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

STAGES = 4


class Swin(nn.Module):
    """MONAI's ``SwinTransformer`` under the name that SwinUNETR gives it.

    Args:
        features: channels of the first stage; tokens have 16 times as many.
        window: edge of a window, in patches.
        depth0, ...: blocks of each stage; heads0, ...: their attention heads.
        v2: whether each stage begins with a convolution.
    """

    def __init__(self, features: int, window: int, v2: int = 0, **stages: int) -> None:
        super().__init__()
        from monai.networks.nets.swin_unetr import SwinTransformer

        self.width = 16 * features
        self.swinViT = SwinTransformer(
            in_chans=1,
            embed_dim=features,
            window_size=(window,) * 3,
            patch_size=(2, 2, 2),
            depths=[stages[f"depth{i}"] for i in range(STAGES)],
            num_heads=[stages[f"heads{i}"] for i in range(STAGES)],
            use_v2=bool(v2),
            spatial_dims=3,
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, S, S, S] to tokens [B, (S/32)³, 16 F], normalised over their channels."""
        tokens: Tensor = self.swinViT(volumes, normalize=True)[-1].flatten(2).transpose(1, 2)
        return tokens


def sizes(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, int]) -> dict[str, int]:
    """The arguments of :class:`Swin`, from the shapes of its tensors.

    Raises:
        KeyError: a tensor is missing.
    """
    found = {
        "features": shapes["swinViT.patch_embed.proj.weight"][0],
        "v2": int(any(".layers1c." in k for k in shapes)),
    }
    for i in range(STAGES):
        stage = rf"swinViT\.layers{i + 1}\.0\.blocks\.\d+\.norm1\.weight"
        found[f"depth{i}"] = sum(bool(re.fullmatch(stage, k)) for k in shapes)
        table = f"swinViT.layers{i + 1}.0.blocks.0.attn.relative_position_bias_table"
        rows, found[f"heads{i}"] = shapes[table]
        found["window"] = (round(rows ** (1 / 3)) + 1) // 2
    return found
