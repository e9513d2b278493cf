"""What an imported network lacks to be used like our own: a summary, and axes turned for it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MeanToken(nn.Module):
    """In place of a summariser: the mean of the tokens, for encoders that have none."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T, W] to one vector [B, W] each."""
        return tokens.mean(1)


class Turned(nn.Module):
    """A network that was trained on volumes whose axes come in another order.

    Args:
        network: maps volumes to tokens without prefix.
        axes: of our volumes (x, y, z), in the order in which the network wants them.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.width = int(network.width)  # type: ignore[arg-type]
        self.axes = tuple(axes)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, S, S, S] to tokens [B, T, W] in our order D, H, W."""
        tokens: Tensor = self.network(volumes.permute(0, 1, *(2 + a for a in self.axes)))
        side = round(tokens.shape[1] ** (1 / 3))
        back = [self.axes.index(axis) for axis in range(3)]
        grid = tokens.unflatten(1, (side, side, side)).permute(0, *(1 + b for b in back), 4)
        turned: Tensor = grid.flatten(1, 3)
        return turned
