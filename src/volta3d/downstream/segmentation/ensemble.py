"""The networks of all folds of an arm as one: the mean of what they say of each voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from volta3d.arms.segmenter import empty
from volta3d.artefacts import FOLD_WEIGHTS, MODEL
from volta3d.downstream.segmentation.memory_layout import fast_layout
from volta3d.downstream.segmentation.model import SegmentModel, architecture_of, load_segment_model
from volta3d.encoder.weights import read_tensors
from volta3d.errors import EncoderError
from volta3d.files import content_hash, sha256


class Ensemble(nn.Module):
    """Networks whose class probabilities are averaged.

    Args:
        members: each [B, 1, S, S, S] to logits [B, C, S, S, S].
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, C, S, S, S] whose softmax is the mean of the members' softmaxes."""
        total: Tensor | None = None
        for member in self.members:
            one = torch.softmax(member(windows).float(), 1)
            total = one if total is None else total + one
        assert total is not None
        return (total / len(self.members)).clamp_min(torch.finfo(torch.float32).tiny).log()


def load_ensemble(path: Path, device: torch.device | str = "cpu") -> SegmentModel:
    """All networks that a run trained for an arm, over folds and seeds, as one model.

    Args:
        path: RUN/arms/NAME.
        device: where they go.

    Returns:
        The arm's model with an ``Ensemble`` for a network; its ``weights_sha256`` stands for all
        of them and ``config["ensemble"]`` says how many they are.

    Raises:
        EncoderError: no networks there, or damaged ones.
    """
    files = sorted(path.glob(f"seed-*/fold-*/{FOLD_WEIGHTS}"))
    if not files:
        raise EncoderError(
            "The networks of this arm's folds are gone",
            where=path,
            fix=f"Name its model: {path / MODEL}",
        )
    model = load_segment_model(path / MODEL, device)
    members = []
    for file in files:
        network = empty(architecture_of(model.config), 0, device="meta")
        try:
            network.load_state_dict(read_tensors(file), strict=True, assign=True)
        except (EncoderError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise EncoderError(
                f"The network of a fold does not fit its arm: {type(error).__name__}: {error}",
                where=file,
                fix=f"Run volta3d segment again, or name the model: {path / MODEL}",
            ) from error
        members.append(fast_layout(network.to(device)))
    config = {
        **model.config,
        "weights_sha256": content_hash([sha256(file) for file in files]),
        "ensemble": len(members),
    }
    return replace(model, network=Ensemble(members).eval(), config=config, path=path)
