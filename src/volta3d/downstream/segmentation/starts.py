"""For each arm its network, where its weights come from, and how its encoder is tuned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import SegmentConfig, UnetConfig, load_pretrain
from volta3d.downstream.arms import ENCODER, Arm
from volta3d.downstream.segmentation.networks import Architecture, empty
from volta3d.downstream.segmentation.pretrained import LoadReport, check_grey, fill, folding
from volta3d.downstream.segmentation.unetr import Unetr
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.errors import UsageError

WORDS = ("scratch", "unet")
HOWS = ("full", "staged", "frozen")
Tune = Literal["full", "staged", "frozen"]


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


def _multiple(size: int, step: int) -> int:
    """The largest multiple of ``step`` up to ``size``, at least one."""
    return max(1, size // step) * step
