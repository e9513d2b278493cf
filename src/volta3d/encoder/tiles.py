"""A cube in tiles that the encoder takes, and their tokens as one grid.

Shape legend: B batch, N tiles along an axis, S edge of a tile, G tokens along a tile (its side),
W width.
"""

from __future__ import annotations

from torch import Tensor


def cut(cubes: Tensor, edge: int, tiles: int) -> Tensor:
    """Cubes [B, 1, N·S, N·S, N·S] to tiles [B·N³, 1, S, S, S] without overlap, in order D, H, W."""
    n = tiles
    if n == 1:
        return cubes
    pieces = cubes.reshape(-1, n, edge, n, edge, n, edge).permute(0, 1, 3, 5, 2, 4, 6)
    return pieces.reshape(-1, 1, edge, edge, edge)


def join(tokens: Tensor, side: int, tiles: int) -> Tensor:
    """Tokens of the tiles [B·N³, G³, W] to those of the cubes [B, (N·G)³, W], in order D, H, W."""
    n, g = tiles, side
    if n == 1:
        return tokens
    grid = tokens.reshape(-1, n, n, n, g, g, g, tokens.shape[2]).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return grid.reshape(-1, (n * g) ** 3, tokens.shape[2])
