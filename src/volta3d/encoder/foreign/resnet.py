"""MONAI's 3D ResNet: its last feature map as tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

PLANES = [64, 128, 256, 512]


class ResNet(nn.Module):
    """MONAI's ``ResNet`` without its last layer.

    Args:
        layer0, ...: blocks of each stage.
        bottleneck: whether a block has three convolutions.
        kernel, stride: of the first convolution; a stride isn't told by shapes.
        bias: whether the shortcuts' convolutions have one.
    """

    def __init__(self, bottleneck: int, kernel: int, stride: int, bias: int, **layers: int) -> None:
        super().__init__()
        from monai.networks.nets import resnet

        self.width = PLANES[3] * (4 if bottleneck else 1)
        self.net = resnet.ResNet(
            "bottleneck" if bottleneck else "basic",
            [layers[f"layer{i}"] for i in range(4)],
            PLANES,
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=kernel,
            conv1_t_stride=stride,
            feed_forward=False,
            bias_downsample=bool(bias),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, S, S, S] to tokens [B, T, W]; their mean is what the ResNet pools."""
        net = self.net
        maps = net.maxpool(net.act(net.bn1(net.conv1(volumes))))
        maps = net.layer4(net.layer3(net.layer2(net.layer1(maps))))
        tokens: Tensor = maps.flatten(2).transpose(1, 2)
        return tokens


def sizes(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, int]) -> dict[str, int]:
    """The arguments of :class:`ResNet`, from the shapes of its tensors and ``stride``.

    Raises:
        KeyError: a tensor is missing.
    """
    found = {
        "bottleneck": int("net.layer1.0.conv3.weight" in shapes),
        "kernel": shapes["net.conv1.weight"][2],
        "stride": options.get("stride", 1),
        "bias": int("net.layer2.0.downsample.0.bias" in shapes),
    }
    for i in range(4):
        stage = rf"net\.layer{i + 1}\.\d+\.conv1\.weight"
        found[f"layer{i}"] = sum(bool(re.fullmatch(stage, k)) for k in shapes)
    return found
