"""Load an encoder folder, checked before anything is allocated, and make features with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d, avg_pool3d

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import ModelConfig, PrepareConfig, build
from volta3d.encoder.weights import (
    RESTORE,
    KeyReport,
    check_sha256,
    read_architecture,
    read_config,
    read_shapes,
    read_tensors,
)
from volta3d.errors import EncoderError
from volta3d.files import content_hash, read_json
from volta3d.model.summariser import Summariser
from volta3d.model.vit import Encoder
from volta3d.pretrain.encoder import CONFIG, WEIGHTS, save_encoder
from volta3d.pretrain.monitor import whole
from volta3d.randomness import derived_seed

REGIONS = 3  # along each axis

__all__ = [
    "KeyReport",
    "LoadedEncoder",
    "check_contract",
    "load_encoder",
    "random_encoder",
    "save_encoder",
]


class HasContract(Protocol):
    """What says how its scans must be prepared: an encoder, or a model fitted on top of one."""

    @property
    def contract(self) -> Contract:
        """The contract."""
        ...


@dataclass(frozen=True)
class LoadedEncoder:
    """A pretrained encoder, ready to make features.

    Args:
        encoder, summariser: the teacher's, in eval mode.
        config: the content of config.json.
        contract: how scans must be prepared.
        image_size: edge of the cube the encoder takes, in voxels.
        downsample: prepared cubes are average-pooled by this factor first.
        path: its folder.
        report: how the tensors fitted.
    """

    encoder: Encoder
    summariser: Summariser
    config: dict[str, Any]
    contract: Contract
    image_size: int
    downsample: int
    path: Path
    report: KeyReport

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.summariser.token.device

    @property
    def width(self) -> int:
        """Numbers in a token."""
        return self.encoder.width

    def to(self, device: torch.device | str) -> Self:
        """Move the weights to ``device``."""
        self.encoder.to(device)
        self.summariser.to(device)
        return self

    def cube(self, volumes: Tensor) -> Tensor:
        """Prepared cubes [B, 1, D, D, D] to what the encoder takes, [B, 1, S, S, S].

        Average pooling, then one trilinear resampling with the centres kept, so that the whole cube
        fills the input. Nothing else smooths: the pooling is the anti-aliasing, and what is left to
        the resampling should be less than a factor of two, as it was for the views in training.

        Raises:
            EncoderError: not cubes of the contract's size, or not finite.
        """
        size = self.contract.size
        if volumes.ndim != 5 or tuple(volumes.shape[1:]) != (1, size, size, size):
            raise EncoderError(
                f"The encoder takes prepared cubes [batch, 1, {size}, {size}, {size}], "
                f"got {list(volumes.shape)}",
                where=self.path,
                fix="Prepare the scans with the encoder's contract",
            )
        volumes = volumes.to(self.device, torch.float32)
        if not torch.isfinite(volumes).all():
            raise EncoderError(
                "A volume holds NaN or infinity",
                where=self.path,
                fix="Prepare the scans with volta3d prepare, which mends or refuses such voxels",
            )
        if self.downsample > 1:
            volumes = avg_pool3d(volumes, self.downsample)
        return whole(volumes, self.image_size)

    @torch.no_grad()
    def features(
        self, volumes: Tensor, *, precision: Literal["fp32", "bf16"] = "fp32"
    ) -> dict[str, Tensor]:
        """Features of prepared cubes [B, 1, D, D, D], whole cubes at once.

        Returns:
            ``token`` [B, W], the summariser's; ``mean`` [B, W] over the patch tokens; ``regions``
            [B, 27·W], their means over a grid of 3³ regions, which keeps what is where; ``patches``
            [B, T, W] in order D, H, W. All in fp32 on the encoder's device.

        Raises:
            EncoderError: see ``cube``.
        """
        cubes = self.cube(volumes)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            patches = self.encoder(cubes)
            token = self.summariser(patches)
        patches = patches.float()
        return {
            "token": token.float(),
            "mean": patches.mean(1),
            "regions": regions(patches),
            "patches": patches,
        }

    def saw(self, cohort: Cohort) -> str:
        """What pretraining saw of a cohort, as far as the encoder's folder and its run tell.

        Seeing test scans without their labels is no leak of labels, but "unseen" would be untrue.
        """
        facts = self.config.get("facts", {})
        if facts.get("data_hash") == content_hash([cohort.hash()]):
            return "all of these scans, without labels"
        described = Path(self.path).parent / "cohort.json"
        if not described.is_file():
            return "unknown"
        known = set(read_json(described).get("scan_ids", []))
        shared = len(known & set(cohort.scan_ids))
        return f"{shared} of these scans, without labels" if shared else "none of these scans"


def regions(patches: Tensor, edge: int = REGIONS) -> Tensor:
    """Means of patch tokens [B, T, W] over ``edge`` regions along each axis, [B, edge³·W].

    Regions share tokens where the grid of tokens is no multiple of ``edge``.
    """
    side = round(patches.shape[1] ** (1 / 3))
    grid = patches.transpose(1, 2).unflatten(2, (side, side, side))
    return adaptive_avg_pool3d(grid, edge).flatten(2).transpose(1, 2).flatten(1)


def load_encoder(path: Path | str, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Load the encoder folder ``path``.

    Raises:
        EncoderError: missing, damaged, of an unknown format, or weights that do not fit.
    """
    path = Path(path)
    content = read_config(path)
    model, contract, image_size, downsample = read_architecture(content, path)
    check_sha256(content, path)
    shapes = read_shapes(path / WEIGHTS)
    encoder, summariser = _empty(model, image_size, len(shapes), path)
    report = _compare(encoder, summariser, shapes)
    if report.missing or report.unknown or report.other_shape:
        raise EncoderError(
            f"The weights do not fit the architecture in {CONFIG}: {report.text()}",
            where=path,
            fix=RESTORE,
        )
    tensors = read_tensors(path / WEIGHTS)
    for prefix, part in (("encoder.", encoder), ("summariser.", summariser)):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        part.load_state_dict(own, strict=True, assign=True)
        part.eval()
    loaded = LoadedEncoder(
        encoder, summariser, content, contract, image_size, downsample, path, report
    )
    return loaded.to(device)


def random_encoder(like: LoadedEncoder, seed: int | None = None) -> LoadedEncoder:
    """The same architecture without training, as a baseline.

    Args:
        like: gives architecture, contract and device.
        seed: of the weights; None is the seed of the run, which gives the very weights it
            started from.
    """
    chosen = int(like.config.get("pretraining", {}).get("seed", 0)) if seed is None else seed
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # the same keys as in build_pair, without its heads and decoder
        torch.default_generator.manual_seed(derived_seed(chosen, "model", "encoder"))
        model = build(ModelConfig, like.config["model"])
        encoder = _encoder(model, like.image_size)
        torch.default_generator.manual_seed(derived_seed(chosen, "model", "summariser"))
        summariser = Summariser(model.width, model.summariser_heads)
    fresh = LoadedEncoder(
        encoder.eval(),
        summariser.eval(),
        {**like.config, "untrained": True, "weights_sha256": ""},
        like.contract,
        like.image_size,
        like.downsample,
        like.path,
        like.report,
    )
    return fresh.to(like.device)


def check_contract(encoder: HasContract, cohort: Cohort) -> None:
    """Refuse a cohort that was prepared in another way than the encoder's scans.

    Raises:
        EncoderError: with the keys that differ.
    """
    wanted, found = encoder.contract, cohort.contract
    differences = wanted.differences(found)
    if differences:
        sets = [
            f"--set {key}={_inline(getattr(wanted, key))}"
            for key in PrepareConfig.model_fields
            if key in Contract.model_fields and getattr(wanted, key) != getattr(found, key)
        ]
        raise EncoderError(
            "The cohort was prepared differently from the scans the encoder was trained on "
            f"(encoder -> cohort): {'; '.join(differences)}",
            where=cohort.path,
            fix=f"Prepare the scans again with {' '.join(sets)}" if sets else "Prepare them again",
        )


def _inline(value: object) -> str:
    """A value as ``--set`` takes it, without spaces."""
    text = str(list(value) if isinstance(value, tuple) else value)
    return text.replace(" ", "")


def _encoder(model: ModelConfig, image_size: int) -> Encoder:
    m = model
    return Encoder(image_size, m.patch_size, m.width, m.depth, m.heads, m.mlp)


def _empty(
    model: ModelConfig, image_size: int, tensors: int, path: Path
) -> tuple[Encoder, Summariser]:
    """Both parts without memory for their weights, so that shapes are compared first."""
    if model.depth > tensors:
        raise EncoderError(
            f"{CONFIG} wants {model.depth} blocks, the file has {tensors} tensors",
            where=path,
            fix=RESTORE,
        )
    try:
        with torch.device("meta"):
            return _encoder(model, image_size), Summariser(model.width, model.summariser_heads)
    except RuntimeError as error:  # sizes whose product overflows
        raise EncoderError(f"{CONFIG} holds impossible sizes", where=path, fix=RESTORE) from error


def _compare(
    encoder: nn.Module, summariser: nn.Module, found: dict[str, tuple[int, ...]]
) -> KeyReport:
    wanted = {f"encoder.{k}": tuple(v.shape) for k, v in encoder.state_dict().items()}
    wanted |= {f"summariser.{k}": tuple(v.shape) for k, v in summariser.state_dict().items()}
    both = sorted(wanted.keys() & found.keys())
    return KeyReport(
        matched=tuple(k for k in both if wanted[k] == found[k]),
        missing=tuple(sorted(wanted.keys() - found.keys())),
        unknown=tuple(sorted(found.keys() - wanted.keys())),
        other_shape=tuple(k for k in both if wanted[k] != found[k]),
    )
