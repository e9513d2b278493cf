"""The networks that are compared, where their weights come from, and how they are tuned."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from monai.networks.nets.unet import UNet
from torch import nn

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import SegmentConfig, UnetConfig, load_pretrain
from volta3d.downstream.arms import ENCODER, Arm
from volta3d.downstream.encoder import LoadedEncoder, load_encoder
from volta3d.downstream.segmentation.unetr import Unetr, coarser
from volta3d.errors import EncoderError, UsageError
from volta3d.model.vit import Encoder
from volta3d.randomness import derived_seed

WORDS = ("scratch", "unet")
HOWS = ("full", "staged", "frozen")
GREY_KEYS = ("orientation", "scaling", "skull_strip", "percentiles", "value_range")
Tune = Literal["full", "staged", "frozen"]


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build a network without its weights.

    Args:
        kind: ``unetr`` or ``unet``.
        classes: background included.
        sizes: of the transformer (image_size, patch_size, width, depth, heads, mlp, features), or
            of the U-Net (channels, strides, residual_units).
    """

    kind: str
    classes: int
    sizes: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": self.kind, "classes": self.classes, **self.sizes}


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


class Starts:
    """For each arm its architecture and where its weights come from.

    Args:
        arms: of the command line.
        config: settings.
        contract: how the cohort was prepared.
        classes: background included.

    Raises:
        EncoderError: an encoder is damaged, contradicts the cohort, or doesn't fit a UNETR.
        UsageError: crops that patches or strides don't divide, or a staged encoder that would stay
            frozen to the end.
    """

    def __init__(
        self, arms: Sequence[Arm], config: SegmentConfig, contract: Contract, classes: int
    ) -> None:
        self.config, self.contract, self.classes = config, contract, classes
        self.encoders: dict[str, LoadedEncoder] = {}
        for arm in arms:
            if arm.kind == ENCODER:
                self.encoders[arm.name] = load_encoder(arm.path)
                check_grey(self.encoders[arm.name], contract)
        for arm in arms:
            self._check_stages(arm)
        self.architectures = {arm.name: self._architecture(arm) for arm in arms}

    def build(self, arm: Arm, seed: int) -> tuple[nn.Module, LoadReport | None]:
        """A network of an arm; what is not loaded starts from (seed, part), equal for all arms.

        Raises:
            EncoderError: too little of an encoder fits.
        """
        network = empty(self.architectures[arm.name], seed)
        if arm.kind != ENCODER:
            return network, None
        assert isinstance(network, Unetr)
        loaded = self.encoders[arm.name]
        return network, fill(network.encoder, loaded, self.contract, self.config.tune.matched)

    def declared(self, arm: Arm) -> dict[str, Any]:
        """What makes an arm what it is: its weights by their hash, not by their path."""
        loaded = self.encoders.get(arm.name)
        return {
            "kind": arm.kind,
            "tune": self.tune(arm),
            "encoder_sha256": loaded.config["weights_sha256"] if loaded else "",
            "architecture": self.architectures[arm.name].content(),
        }

    def saw(self, arm: Arm, cohort: Cohort) -> str:
        """What the pretraining of an arm saw of a cohort; none without one."""
        loaded = self.encoders.get(arm.name)
        return loaded.saw(cohort) if loaded else "none"

    def tune(self, arm: Arm) -> Tune:
        """How the encoder of an arm is tuned; what starts from scratch is trained in full."""
        if arm.kind != ENCODER:
            return "full"
        named: dict[str, Tune] = {"full": "full", "staged": "staged", "frozen": "frozen"}
        return named[arm.how or self.config.tune.encoder]

    def _check_stages(self, arm: Arm) -> None:
        epochs, frozen = self.config.epochs, self.config.tune.frozen_epochs
        if self.tune(arm) == "staged" and frozen >= epochs:
            raise UsageError(
                f"A staged encoder that is frozen for {frozen} epochs never thaws in {epochs}",
                where=arm.name,
                fix=f"Use --set tune.frozen_epochs={epochs // 4}, more epochs, or frozen:ENCODER",
            )

    def _architecture(self, arm: Arm) -> Architecture:
        if arm.kind == "unet":
            return self._unet(self.config.unet)
        u = self.config.unetr
        sizes = {k: getattr(u, k) for k in ("patch_size", "width", "depth", "heads", "mlp")}
        loaded = self.encoders.get(arm.name)
        if arm.kind == "scratch" and not arm.source and self.encoders:
            loaded = next(iter(self.encoders.values()))  # the identical network without training
        if loaded is not None:
            model = loaded.config["model"]
            sizes = {k: int(model[k]) for k in sizes}
            sizes["patch_size"] *= folding(loaded, self.contract)
        elif arm.source:
            model = load_pretrain(arm.source).model
            sizes = {k: getattr(model, k) for k in sizes}
            sizes["patch_size"] *= load_pretrain(arm.source).views.downsample
        size = self.config.crops.size
        if size % sizes["patch_size"]:
            raise UsageError(
                f"Crops of {size} voxels do not divide into patches of {sizes['patch_size']}",
                where=arm.name,
                fix=f"Use --set crops.size={_multiple(size, sizes['patch_size'])}",
            )
        sizes = {"image_size": size, **sizes, "features": u.features}
        return Architecture("unetr", self.classes, sizes)

    def _unet(self, unet: UnetConfig) -> Architecture:
        step = 1
        for stride in unet.strides:
            step *= stride
        if self.config.crops.size % step:
            raise UsageError(
                f"Crops of {self.config.crops.size} voxels are not a multiple of the U-Net's "
                f"strides, {step}",
                where="crops.size",
                fix=f"Use --set crops.size={_multiple(self.config.crops.size, step)}",
            )
        sizes = {
            "channels": list(unet.channels),
            "strides": list(unet.strides),
            "residual_units": unet.residual_units,
        }
        return Architecture("unet", self.classes, sizes)


def empty(architecture: Architecture, seed: int, device: str = "cpu") -> nn.Module:
    """A network with fresh weights, a function of the seed and the architecture.

    On device ``meta`` it has no weights yet.
    """
    s, classes = architecture.sizes, architecture.classes
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.default_generator.manual_seed(derived_seed(seed, "segment", architecture.kind))
        if architecture.kind == "unet":
            unet: nn.Module = UNet(
                spatial_dims=3,
                in_channels=1,
                out_channels=classes,
                channels=tuple(s["channels"]),
                strides=tuple(s["strides"]),
                num_res_units=s["residual_units"],
            )
            return unet
        sizes = (s["image_size"], s["patch_size"], s["width"], s["depth"], s["heads"], s["mlp"])
        encoder = Encoder(*sizes)
        torch.default_generator.manual_seed(derived_seed(seed, "segment", "decoder"))
        return Unetr(encoder, classes, s["features"])


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
    folded = folding(loaded, contract)
    given = dict(loaded.encoder.state_dict())
    if folded > 1:
        given = coarser(given, folded)
    own = encoder.state_dict()
    interpolated = []
    if (
        "patches.position" in given
        and given["patches.position"].shape != own["patches.position"].shape
    ):
        position = loaded.encoder.patches.positions(encoder.patches.native_grid)
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


def folding(loaded: LoadedEncoder, contract: Contract) -> int:
    """By how much an encoder's patches grow to cover as many millimetres of the cohort's grid.

    An encoder that pooled its volumes by 2 saw voxels of twice the spacing.
    """
    millimetres = loaded.contract.spacing * loaded.downsample
    factor = millimetres / contract.spacing
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


def parameter_groups(
    network: nn.Module, *, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups for AdamW, each with its ``scale`` of the learning rate.

    The decoder learns at the full rate, block i of d of an encoder at ``layer_decay`` to the power
    of d - i, its patches and positions at that of d + 1. Biases and one-dimensional tensors are not
    decayed.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        scale = layer_decay ** _distance(network, name)
        groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * scale,
            "scale": scale,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (scale, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _distance(network: nn.Module, name: str) -> int:
    """How many blocks lie between a parameter and the decoder; 0 in the decoder itself."""
    if not isinstance(network, Unetr) or not name.startswith("encoder."):
        return 0
    depth = len(network.encoder.blocks)
    if name.startswith("encoder.blocks."):
        return depth - int(name.split(".")[2])
    return 1 if name.startswith("encoder.norm") else depth + 1


def sound_bf16(architecture: Architecture, size: int, device: torch.device) -> bool:
    """Whether bfloat16 gradients of an architecture can be trusted on a device.

    On CPUs the bfloat16 gradient of a convolution of 3 x 3 x 3 over a grid of 2 x 2 x 2 is wrong,
    and often not finite (seen with torch 2.13; every other grid agrees with fp32). A U-Net has such
    a grid at its bottom when the crops are twice its strides, a UNETR above its coarsest skip
    connection when a crop is one patch.
    """
    if device.type != "cpu":
        return True
    sizes = architecture.sizes
    if architecture.kind == "unet":
        smallest = size // math.prod(sizes["strides"])
    else:
        smallest = 2 * (size // sizes["patch_size"])
    return bool(smallest > 2)


def train_encoder(network: nn.Module, trained: bool) -> None:
    """Freeze or free a UNETR's encoder; its other parts, and a U-Net, are always trained."""
    if isinstance(network, Unetr):
        network.encoder.requires_grad_(trained)


def _multiple(size: int, step: int) -> int:
    """The largest multiple of ``step`` up to ``size``, at least one."""
    return max(1, size // step) * step
