"""A fitted segmentation on disk: what ``predict`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from volta3d import __version__
from volta3d.arms.segmenter import Architecture, empty
from volta3d.cohort.contract import Contract
from volta3d.config import build
from volta3d.downstream.classification.fitted import FORMAT, read_model_config
from volta3d.downstream.segmentation.memory_layout import fast_layout
from volta3d.downstream.segmentation.sliding import black_of, flip_passes, probabilities
from volta3d.downstream.segmentation.structures import Structure, pairs
from volta3d.encoder.weights import LARGEST, check_sha256, read_tensors
from volta3d.errors import ConfigError, EncoderError
from volta3d.files import atomic_folder, sha256, write_json, write_text
from volta3d.pretrain.encoder import CARD, CONFIG, WEIGHTS

FLIPS = ("none", "left-right")
RESTORE = "Restore the model folder, or fit it again with volta3d segment"


@dataclass(frozen=True)
class SegmentModel:
    """A fitted segmentation, ready to use.

    Args:
        network: in eval mode.
        structures: classes 1, 2, ...
        contract: how scans must be prepared.
        config: the content of config.json.
        path: its folder.
    """

    network: nn.Module
    structures: tuple[Structure, ...]
    contract: Contract
    config: dict[str, Any]
    path: Path

    @property
    def test_flips(self) -> str:
        """The passes that its run averaged: none, or left-right."""
        return str(_asked(self.config, "test_flips", "none"))

    @property
    def largest_component(self) -> bool:
        """Whether its run kept only the largest part of each structure."""
        return bool(_asked(self.config, "largest_component", False))

    @property
    def bf16(self) -> bool:
        """Whether it was trained and tested in bfloat16."""
        stated = _asked(self.config, "precision", "auto") != "fp32"  # of releases without the fact
        return bool(self.config.get("bf16", stated))

    @torch.no_grad()
    def predict(
        self, volume: np.ndarray, *, flips: str = "none", bf16: bool = False, batch: int = 4
    ) -> Tensor:
        """Class probabilities [C, D, H, W] of a prepared cube [D, H, W].

        Args:
            volume: float32, prepared with the contract.
            flips: none or left-right; averaged.
            bf16: run the network in bfloat16.
            batch: windows at once.
        """
        device = next(self.network.parameters()).device
        cube = torch.from_numpy(volume).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return probabilities(
                self.network,
                cube,
                size=int(self.config["crop"]),
                overlap=float(self.config["overlap"]),
                batch=batch,
                background=black_of(cube, self.contract),
                flips=flip_passes(flips),
                swapped=pairs(self.structures),
            )


def save_segment_model(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    architecture: Architecture,
    structures: Sequence[Structure],
    contract: Contract,
    about: dict[str, Any],
) -> None:
    """Publish a model folder, whole or not at all.

    Args:
        folder: replaced if it exists.
        tensors: all weights.
        architecture: of the network.
        structures: in the order of its classes.
        contract: how the scans it saw were prepared.
        about: ``crop``, ``overlap``, ``arm``, ``trained_on``, ``fold``, ``inner_dice``, ``bf16``,
            ``settings`` (``test_flips`` and ``largest_component`` among them) ...
    """
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic_folder(folder) as temporary:
        save_file(plain, temporary / WEIGHTS)
        content = {
            "format": FORMAT,
            "kind": "segmentation",
            "software": f"volta3d {__version__}",
            "labels": [s.content() for s in structures],
            "architecture": architecture.content(),
            **about,
            "contract": contract.content(),
            "contract_hash": contract.hash(),
            "weights_sha256": sha256(temporary / WEIGHTS),
            "parameters": sum(v.numel() for v in plain.values()),
        }
        write_json(temporary / CONFIG, content)
        write_text(temporary / CARD, _card(content))


def load_segment_model(path: Path | str, device: torch.device | str = "cpu") -> SegmentModel:
    """Load a fitted segmentation, every claim checked before memory is given to it.

    Raises:
        EncoderError: missing, damaged, or another kind of model.
    """
    path = Path(path)
    content = read_model_config(path)
    try:
        if content["kind"] != "segmentation":
            raise ValueError(f"it is a model for {content['kind']}")
        check_sha256(content, path)
        contract = build(Contract, content["contract"])
        structures = tuple(Structure.from_content(s) for s in content["labels"])
        architecture = architecture_of(content)
        _check_sizes(architecture, structures, content, contract)
        tensors = read_tensors(path / WEIGHTS)
        network = empty(architecture, 0, device="meta")
        network.load_state_dict(tensors, strict=True, assign=True)
        model = SegmentModel(network, structures, contract, content, path)
        _check_use(model)
    except (
        AttributeError, KeyError, TypeError, ValueError, RuntimeError, ConfigError
    ) as error:  # fmt: skip
        raise EncoderError(
            f"The model's {CONFIG} and weights do not fit: {type(error).__name__}: {error}",
            where=path,
            fix=RESTORE,
        ) from error
    fast_layout(network.to(device)).eval()
    return model


def architecture_of(content: dict[str, Any]) -> Architecture:
    """The network that a model's config.json describes."""
    given = dict(content["architecture"])
    return Architecture(given.pop("kind"), int(given.pop("classes")), given)


def _asked(content: dict[str, Any], key: str, missing: Any) -> Any:
    """A setting of the run that a model is from."""
    return content.get("settings", {}).get(key, missing)


def _check_use(model: SegmentModel) -> None:
    stated = (model.config.get("bf16", False), _asked(model.config, "largest_component", False))
    if model.test_flips not in FLIPS or not all(isinstance(s, bool) for s in stated):
        raise ValueError("its settings test_flips, largest_component or bf16 are not valid")


def _check_sizes(
    architecture: Architecture,
    structures: Sequence[Structure],
    content: dict[str, Any],
    contract: Contract,
) -> None:
    sizes = [v for v in architecture.sizes.values() if isinstance(v, int)]
    sizes += [
        v for values in architecture.sizes.values() if isinstance(values, list) for v in values
    ]
    numbers = [*sizes, int(content["crop"]), contract.size]
    if not all(0 <= n <= LARGEST for n in numbers) or not 0 <= float(content["overlap"]) < 1:
        raise ValueError("impossible sizes")
    if architecture.classes != len(structures) + 1 or architecture.classes > 256:
        raise ValueError("the labels are not those of the architecture")


def _card(content: dict[str, Any]) -> str:
    """What the model is, what it saw, and what it is not for."""
    seen, names = content["trained_on"], ", ".join(s["name"] for s in content["labels"])
    dice = content.get("inner_dice")
    chosen = f"Epoch {content['epoch']}, chosen by: {content['selection']}"
    if dice is not None:
        chosen += f" (Dice {dice:.3f} on the scans it was chosen on)"
    elif content["selection"] != "last":
        chosen += " (no scan with a structure to choose on: it is the last epoch)"
    lines = [
        "# volta3d model: segmentation",
        "",
        "SYNTHETIC DATA: good for trying the software, nothing else.\n"
        if seen["synthetic"]
        else "",
        f"Outlines {names} in a T1-weighted brain scan. {content['parameters']:,} numbers, "
        f"{content['architecture']['kind']}, arm '{content['arm']['name']}'.",
        "",
        f"Fitted on {seen['scans']} scans of {seen['subjects']} subjects ({seen['datasets']}). "
        f"It is the network of fold {content['fold']}, whose test scans it has not seen; the run's "
        "metrics.json says how all folds did on theirs.",
        "",
        f"{chosen}.",
        "",
        "Scans are prepared by the contract in config.json, and label maps come back in the scan's "
        "own grid; `volta3d predict` does both.",
        "",
        "Not a medical device. Not for diagnosis or any decision about a person. Volumes of "
        "automatic outlines are estimates; look at the preview pictures.",
        "",
    ]
    return "\n".join(lines)
