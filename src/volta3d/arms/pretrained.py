"""How an encoder's weights enter a UNETR, and which encoders may."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch

from volta3d.arms.networks.unetr import coarser
from volta3d.cohort.contract import Contract
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.errors import EncoderError
from volta3d.model.vit import Encoder

GREY_KEYS = ("orientation", "scaling", "skull_strip", "percentiles", "value_range")


@dataclass(frozen=True)
class LoadReport:
    """How an encoder's weights entered a network.

    Args:
        matched: tensors taken as they are (or folded exactly, see ``folded``).
        interpolated: position embeddings resized to another grid.
        missing: tensors of the network's encoder that the file lacks; they stay random.
        folded: patches were enlarged by this factor, because the encoder saw pooled volumes.
        differs: what the two preparations do differently without contradicting each other.
    """

    matched: int
    interpolated: tuple[str, ...]
    missing: tuple[str, ...]
    folded: int
    differs: tuple[str, ...]

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def fill(
    encoder: Encoder, loaded: LoadedEncoder, contract: Contract, threshold: float
) -> LoadReport:
    """Copy pretrained weights into a UNETR's encoder.

    Position embeddings are resized where the grid of a crop differs from that of pretraining.

    Args:
        encoder: of the UNETR, for one size of crop.
        loaded: what was pretrained.
        contract: of the cohort.
        threshold: the share of the encoder's tensors that must be found.

    Raises:
        EncoderError: fewer are, or one has another shape.
    """
    # the network's patches were made for the cohort's millimetres, see ``folding``
    folded = max(1, encoder.patch_size // int(loaded.config["model"]["patch_size"]))
    given = dict(loaded.vit.state_dict())
    if folded > 1:
        given = coarser(given, folded)
    own = encoder.state_dict()
    interpolated = []
    if (
        "patches.position" in given
        and given["patches.position"].shape != own["patches.position"].shape
    ):
        position = loaded.vit.patches.positions(encoder.patches.native_grid)
        given["patches.position"] = position.detach()
        interpolated.append("patches.position")
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    missing = tuple(sorted(own.keys() - fitting.keys()))
    report = LoadReport(
        len(fitting) - len(interpolated),
        tuple(interpolated),
        missing,
        folded,
        tuple(loaded.contract.differences(contract)),
    )
    share = len(fitting) / len(own)
    if share < threshold:
        raise EncoderError(
            f"Only {share:.0%} of the encoder's tensors fit this network; missing: "
            f"{', '.join(missing[:3])}",
            where=loaded.path,
            fix="Use an encoder of this architecture, or lower --set tune.matched",
        )
    encoder.load_state_dict({**own, **copy.deepcopy(fitting)})
    return report


def folding(loaded: LoadedEncoder, contract: Contract, cohort_mm: float | None = None) -> int:
    """By how much an encoder's patches grow to cover as many millimetres of the cohort's grid.

    Measured millimetres where the encoder's are known; else an encoder that pooled its volumes by 2
    saw voxels of twice the nominal spacing.

    Args:
        loaded: the encoder.
        contract: of the cohort.
        cohort_mm: median edge of the cohort's voxels; None: the contract's spacing.
    """
    scale = loaded.scale
    millimetres = loaded.contract.spacing * loaded.downsample if scale is None else scale.voxel_mm
    factor = millimetres / (cohort_mm or contract.spacing)
    return int(max(1, 2 ** round(float(torch.log2(torch.tensor(factor))))))


def check_grey(loaded: LoadedEncoder, contract: Contract) -> None:
    """Refuse an encoder whose scans had their grey values prepared in another way.

    Grids may differ: segmentation wants the native millimetre, whatever pretraining had.

    Raises:
        EncoderError: with the keys that differ.
    """
    wanted = [k for k in GREY_KEYS if getattr(loaded.contract, k) != getattr(contract, k)]
    if wanted:
        sets = [f"--set {k}={getattr(loaded.contract, k)}" for k in wanted if k != "value_range"]
        raise EncoderError(
            f"The encoder's scans had their grey values prepared differently: {', '.join(wanted)}",
            where=loaded.path,
            fix=f"Prepare the cohort again with {' '.join(sets).replace(', ', ',')}",
        )
