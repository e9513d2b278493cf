"""Settings of ``volta3d pretrain``, and the presets that ship with the package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from volta3d.artefacts import RUN_CONFIG
from volta3d.config.base import (
    Config,
    Count,
    Positive,
    Probability,
    Range,
    Scale,
    Some,
    build,
    load_preset,
    ordered,
    parse_yaml,
    preset_names,
    read_yaml,
)

PRESETS = "presets"
DEFAULT = "stable"
FRACTIONS: dict[str, tuple[float, float]] = {"global_scale": (0.7, 1.0), "local_scale": (0.35, 0.6)}
Below = Annotated[float, Field(ge=0, lt=1)]


Millimetres = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]


class ViewsConfig(Config):
    """The views drawn from one scan (METHOD section 2).

    How much of a head a view holds is said in one of two ways: in millimetres (``spacing_mm``), or
    as a fraction of the prepared cube (``global_scale``), whatever that cube measures.
    """

    downsample: Some = 1  # average-pool the prepared cube by this factor when loading
    global_size: Some = 96  # [I] 3DINO
    local_size: Some = 48  # [I] 3DINO
    locals: Count = 8  # [I] 3DINO
    spacing_mm: Millimetres | None = None  # of a voxel of a global view, from, to
    local_spacing_mm: Millimetres | None = None  # of a local view's; None: as spacing_mm
    global_scale: Scale | None = None  # [C] linear, of the volume; (.7, 1) without spacing_mm
    local_scale: Scale | None = None  # [C] (.35, .6) without spacing_mm
    isotropic: bool = False  # one scale for the three axes
    flip: Probability = 0.5  # [C] left-right
    rotation: float = Field(default=10.0, ge=0, le=45)  # [C] degrees, uniform in +- about each axis
    intensity: float = Field(default=1.0, ge=0, le=1)  # strength of every intensity operation
    contrast: Probability = 0.8  # [C] one of gamma, histogram shift, noise
    smooth: tuple[Probability, Probability, Probability] = (1.0, 0.1, 0.5)  # [C] g1, g2, locals
    gibbs: Probability = 0.2  # [C] on global 2
    bias: Probability = 0.5  # [C] smooth bias field

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        fractions = {name for name in FRACTIONS if content.get(name) is not None}
        if content.get("spacing_mm") is None:
            if content.get("local_spacing_mm") is not None:
                raise ValueError("local_spacing_mm needs spacing_mm, of the global views")
            missing = {name: FRACTIONS[name] for name in FRACTIONS if name not in fractions}
            return {**content, **missing}
        if fractions:
            raise ValueError(
                f"spacing_mm and {' and '.join(sorted(fractions))} both say how much of a head a "
                f"view holds: set spacing_mm=null, or {'=null, '.join(sorted(fractions))}=null"
            )
        return content


class MaskingConfig(Config):
    """GMML: groups of neighbouring voxels are replaced (METHOD section 3)."""

    ratio: float = Field(default=0.5, gt=0, lt=1)  # [S] half of the volume
    max_edge: float = Field(default=0.3, gt=0, le=1)  # [I] of the view's edge
    align: Some = 1  # [I] corners and edges are multiples of this
    fill: Literal["zeros", "noise", "either"] = "either"  # [S] zeros/noise, drawn once per view


class ModelConfig(Config):
    """Student and teacher (METHOD section 4)."""

    patch_size: Some = 16  # [I]
    width: Some = 768  # [S]
    depth: Some = 12  # [S]
    heads: Some = 12  # [S]
    mlp: Some = 3072  # [S]
    decoder_channels: Some = 16  # [S] MONAI's deconv_chns
    summariser_heads: Some = 8  # [S]
    head_hidden: Some = 2048  # [I] DINO
    bottleneck: Some = 256  # [I] DINO
    prototypes: int = Field(default=8192, ge=2)  # [I]

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        for name in ("heads", "summariser_heads"):
            if self.width % getattr(self, name):
                raise ValueError(f"width {self.width} is not a multiple of {name}")
        return self


class ObjectiveConfig(Config):
    """The three losses and what feeds them (METHOD sections 5 and 10)."""

    reconstruction: float = Field(default=100.0, ge=0)  # [S] lambda
    cls: float = Field(default=1.0, ge=0)  # [S]
    patch: float = Field(default=1.0, ge=0)  # [S]
    koleo: float = Field(default=0.0, ge=0)  # [C] keeps scans of a batch apart; needs a true batch
    student_temperature: Positive = 0.1  # [I]
    teacher_temperature: tuple[Positive, Positive] = (0.04, 0.07)  # [I] start, end
    teacher_temperature_epochs: Count = 30  # [I] linear
    center_momentum: float = Field(default=0.9, ge=0, lt=1)  # [I]
    patch_tokens: Literal["all", "masked"] = "all"  # [I] MC-SSL; masked is iBOT
    cls_student: Literal["corrupted", "clean"] = "corrupted"  # clean: a second student pass
    bottleneck: Literal["plain", "standardised"] = "plain"  # before the L2 normalisation
    bottleneck_momentum: float = Field(default=0.9, ge=0, lt=1)
    bottleneck_epsilon: Positive = 0.1  # of the mean variance
    start_statistics: Count = 0  # scans of a first look from which centres start; 0: from zero
    cls_start_epoch: Count = 0  # CLS loss off before
    cls_ramp_epochs: Count = 0  # then linear from 0 to its weight


class OptimConfig(Config):
    """Optimiser, schedules and the teacher's momentum (METHOD section 6)."""

    warmup_epochs: float = Field(default=10, ge=0)  # [S]
    lr_end: float = Field(default=1e-6, ge=0)  # [C]
    betas: tuple[Below, Below] = (0.9, 0.999)  # [S] AdamW
    weight_decay: Range = (0.04, 0.4)  # [I] cosine from, to
    clip: float = Field(default=3.0, ge=0)  # [I] 0 turns it off
    clip_by: Literal["parameter", "global"] = "parameter"  # [I] DINO
    freeze_last_layer_epochs: Count = 1  # [I]
    momentum: tuple[Probability, Probability] = (0.996, 1.0)  # [S] form, [I] values
    cadence: Literal["micro_step", "optimiser_step"] = "micro_step"  # [S] EMA and centre update


class MonitorConfig(Config):
    """What is watched while training (METHOD sections 6 and 10)."""

    every_epochs: Some = 1
    scans: Some = 128  # at most, for the feature monitors
    holdout: float = Field(default=0.0, ge=0)  # people not trained on: a share, from 1 on a number
    probe: str = ""  # a column of participants.tsv, e.g. age; empty: the first usable one
    alarm: Literal["stop", "warn"] = "warn"
    alarm_after_epochs: Count = 20  # a fresh network is always in alarm

    @model_validator(mode="after")
    def _people(self) -> Self:
        if self.holdout > 1 and self.holdout % 1:
            raise ValueError(f"holdout is a share below 1 or a whole number, got {self.holdout:g}")
        return self


FREE = (
    "checkpoint_minutes",
    "checkpoint_steps",
    "keep_checkpoints",
    "device",
    "workers",
    "data",
    "checkpointing",
    "compile",
    "tracking",
)


class PretrainConfig(Config):
    """Everything ``volta3d pretrain`` needs besides the cohort."""

    preset: str = "paper"
    epochs: Some = 100
    batch_size: Some = 1
    accumulate: Some = 8
    lr: Positive = 1e-4
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    workers: Count = 1  # threads that make views ahead of the step; 0: in between the steps
    data: Literal["auto", "resident", "stream"] = "auto"  # scans on the device, or read as needed
    checkpointing: bool = False  # activations made twice instead of kept: less memory, more time
    compile: bool = False  # torch.compile of the blocks; on a CPU it needs a C++ compiler
    checkpoint_minutes: Positive = 10.0
    checkpoint_steps: Count = 0  # also after every so many optimiser steps; 0: by time alone
    keep_checkpoints: Some = 2
    tracking: Literal["auto", "none", "tensorboard", "mlflow"] = "auto"  # auto: if it's installed
    views: ViewsConfig = ViewsConfig()
    masking: MaskingConfig = MaskingConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optim: OptimConfig = OptimConfig()
    monitor: MonitorConfig = MonitorConfig()

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        for name in ("global_size", "local_size"):
            if getattr(self.views, name) % self.model.patch_size:
                raise ValueError(
                    f"views.{name} {getattr(self.views, name)} is not a multiple of "
                    f"model.patch_size {self.model.patch_size}"
                )
        if self.objective.koleo and self.batch_size < 2:
            raise ValueError("objective.koleo compares the scans of a batch: batch_size must be 2+")
        return self

    def science(self) -> dict[str, Any]:
        """The content without what may differ between two runs of the same experiment.

        How often checkpoints are written, how loudly alarms ring, the device and what only
        changes speed and memory are left out.
        """
        content = self.content()
        for free in FREE:
            content.pop(free)
        for free in ("alarm", "alarm_after_epochs"):
            content["monitor"].pop(free)
        return content


def presets() -> list[str]:
    """The names of the presets that ship with the package."""
    return preset_names(PRESETS)


def load_pretrain(preset: str | None = None, assignments: Iterable[str] = ()) -> PretrainConfig:
    """A preset (a shipped name or a YAML file; None: stable) with assignments on top.

    Raises:
        ConfigError: no such preset, an unknown key, or a value of the wrong kind.
    """
    return load_preset(PretrainConfig, PRESETS, preset or DEFAULT, assignments)


def load_own(run: Path, preset: str | None, assignments: Iterable[str] = ()) -> PretrainConfig:
    """The settings of a run that goes on: its own, with ``key=value`` assignments on top.

    Args:
        run: its folder; where no run is, the preset counts as for a new one.
        preset: named by the caller; then it is taken, and differences are found later.

    Raises:
        ConfigError: as :func:`load_pretrain`.
    """
    file = run / RUN_CONFIG
    if preset is not None or not file.is_file():
        return load_pretrain(preset, assignments)
    return build(PretrainConfig, parse_yaml(read_yaml(file), where=file), assignments)
