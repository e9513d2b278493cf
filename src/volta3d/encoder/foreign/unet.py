"""The encoder half of a plain 3D U-Net (AMAES, FOMO): its bottleneck as tokens."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, max_pool3d

STAGES = ("in_conv", "encoder_conv1", "encoder_conv2", "encoder_conv3", "encoder_conv4")


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, maps: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(maps)), 0.01)


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _Layer(inputs, outputs)
        self.conv2 = _Layer(outputs, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        after: Tensor = self.conv2(self.conv1(maps))
        return after


class UnetEncoder(nn.Module):
    """Five stages of two convolutions each, halved in between.

    Args:
        filters: channels of the first stage; tokens have 16 times as many.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.width = 16 * filters
        channels = [1, *(filters * 2**i for i in range(len(STAGES)))]
        self.encoder = nn.ModuleDict(
            {name: _Stage(channels[i], channels[i + 1]) for i, name in enumerate(STAGES)}
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, S, S, S] to tokens [B, (S/16)³, 16 F]."""
        maps = volumes
        for number, stage in enumerate(self.encoder.values()):
            maps = stage(max_pool3d(maps, 2) if number else maps)
        return maps.flatten(2).transpose(1, 2)


def sizes(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, int]) -> dict[str, int]:
    """The arguments of :class:`UnetEncoder`, from the shapes of its tensors.

    Raises:
        KeyError: a tensor is missing.
    """
    return {"filters": shapes["encoder.in_conv.conv1.conv.weight"][0]}
