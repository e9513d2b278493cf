"""The encoder: a 3D vision transformer, equal to the one inside MONAI's ViTAutoEnc and UNETR."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from volta3d.model.block import Block
from volta3d.model.patches import Grid, PatchEmbedding


class Encoder(nn.Module):
    """Patch embedding, ``depth`` pre-norm blocks, final LayerNorm (METHOD section 4).

    Args:
        image_size: edge of the cube for which position embeddings are learned.
        patch_size: edge of a patch.
        width: of a token.
        depth: number of blocks.
        heads: attention heads.
        mlp: width of the blocks' MLP.

    Raises:
        EncoderError: sizes that do not divide.

    Set ``checkpointing`` to recompute activations in the backward pass instead of keeping them:
    less memory, about a third more time, the same numbers.
    """

    def __init__(
        self, image_size: int, patch_size: int, width: int, depth: int, heads: int, mlp: int
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_size = patch_size
        self.width = width
        self.checkpointing = False
        self.patches = PatchEmbedding(image_size, patch_size, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, 1, D, H, W] to normalised tokens [B, T, width], in order D, H, W.

        Raises:
            EncoderError: an edge is not a multiple of the patch size.
        """
        return self.encode(self.patches.cut(volumes), self.patches.grid(volumes))

    def encode(self, patches: Tensor, grid: Grid) -> Tensor:
        """The same from patches [B, T, P] that were cut before, for views that pass twice."""
        tokens = self.patches.embed(patches, grid)
        for block in self.blocks:
            tokens = self._through(block, tokens)
        normalised: Tensor = self.norm(tokens)
        return normalised

    def hidden_states(self, volumes: Tensor) -> list[Tensor]:
        """The ``depth`` states [B, T, width] after each block, before the final norm."""
        tokens = self.patches(volumes)
        states = []
        for block in self.blocks:
            tokens = self._through(block, tokens)
            states.append(tokens)
        return states

    def _through(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # nothing in a block is random, so there is no generator state to keep
            kept: Tensor = checkpoint(block, tokens, use_reentrant=False, preserve_rng_state=False)
            return kept
        after: Tensor = block(tokens)
        return after
