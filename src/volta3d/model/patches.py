"""Volumes to patch tokens with their places (METHOD section 4).

Shape legend: B batch, D H W voxels, T tokens (in order D, H, W), P voxels of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from volta3d.errors import EncoderError

Grid = tuple[int, int, int]


class PatchEmbedding(nn.Module):
    """Non-overlapping convolution plus learned position embedding.

    The convolution's stride equals its kernel, so it is one matrix product per patch, and its
    weight [width, P] is MONAI's Conv3d weight [width, 1, p, p, p] flattened.

    Args:
        image_size: edge of the cube for which position embeddings are learned.
        patch_size: edge p of a patch.
        width: of a token.

    Raises:
        EncoderError: ``image_size`` is not a multiple of ``patch_size``.
    """

    def __init__(self, image_size: int, patch_size: int, width: int) -> None:
        super().__init__()
        if patch_size < 1 or image_size < 1 or image_size % patch_size:
            raise EncoderError(
                f"The image size {image_size} is not a multiple of the patch size {patch_size}",
                where="encoder",
                fix="Choose an image size that is a multiple of the patch size",
            )
        self.patch_size = patch_size
        edge = image_size // patch_size
        self.native_grid: Grid = (edge, edge, edge)
        self.projection = nn.Linear(patch_size**3, width)
        self.position = nn.Parameter(torch.empty(1, edge**3, width))
        nn.init.trunc_normal_(self.position, std=0.02)  # the cuts lie at +-2, as in MONAI

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, D, H, W] to tokens [B, T, width].

        Raises:
            EncoderError: not of that shape, or an edge is not a multiple of the patch size.
        """
        return self.embed(self.cut(volumes), self.grid(volumes))

    def cut(self, *volumes: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Volumes [B, 1, D, H, W] to patches [B, T, P], a copy; no parameter takes part.

        Args:
            volumes: several of one shape come out one after the other.
            dtype: of the patches; the volumes' own when None.

        Raises:
            EncoderError: as :meth:`grid`.
        """
        depth, height, width = self.grid(volumes[0])
        p, count = self.patch_size, depth * height * width
        pieces = [
            v.reshape(-1, depth, p, height, p, width, p).permute(0, 1, 3, 5, 2, 4, 6)
            for v in volumes
        ]
        if len(pieces) == 1 and dtype in (None, volumes[0].dtype):
            return pieces[0].reshape(-1, count, p**3)
        out = torch.cat(pieces) if dtype is None else _converted(pieces, dtype)
        return out.view(-1, count, p**3)

    def embed(self, patches: Tensor, grid: Grid) -> Tensor:
        """Patches [B, T, P] of a ``grid`` to tokens [B, T, width]."""
        tokens: Tensor = self.projection(patches)
        return tokens + self.positions(grid)

    def grid(self, volumes: Tensor) -> Grid:
        """Patches along each axis of ``volumes`` [B, 1, D, H, W].

        Raises:
            EncoderError: not of that shape, or an edge is not a multiple of the patch size.
        """
        p = self.patch_size
        if volumes.ndim != 5 or volumes.shape[1] != 1:
            raise EncoderError(
                f"The encoder takes volumes [batch, 1, D, H, W], got {list(volumes.shape)}",
                where="encoder input",
                fix="Pass single-channel 3D volumes",
            )
        if any(edge < p or edge % p for edge in volumes.shape[2:]):
            raise EncoderError(
                f"The volume {list(volumes.shape[2:])} does not divide into patches of {p}",
                where="encoder input",
                fix=f"Crop or pad every edge to a multiple of {p}",
            )
        depth, height, width = (edge // p for edge in volumes.shape[2:])
        return depth, height, width

    def positions(self, grid: Grid) -> Tensor:
        """Position embeddings [1, T, width] for ``grid``: trilinear, by target size.

        The learned ones come back untouched when ``grid`` is the native one.
        """
        if grid == self.native_grid:
            return self.position
        native = self.position.transpose(1, 2).unflatten(2, self.native_grid)
        # by size, not by scale factor: a rounded factor would shift the sampling points
        resized = functional.interpolate(native, size=grid, mode="trilinear", align_corners=False)
        return resized.flatten(2).transpose(1, 2)


def _converted(pieces: list[Tensor], dtype: torch.dtype) -> Tensor:
    """The pieces one after the other in ``dtype``, copied once; not differentiable."""
    shape = (sum(len(piece) for piece in pieces), *pieces[0].shape[1:])
    out = torch.empty(shape, dtype=dtype, device=pieces[0].device)
    for piece, place in zip(pieces, out.split([len(p) for p in pieces]), strict=True):
        place.copy_(piece)
    return out
