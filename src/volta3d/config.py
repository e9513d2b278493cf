"""Configuration: typed, inert, complete. YAML in, YAML out; an unknown key is an error.

What a person sets every day stands at the top of each command's configuration. Where a value comes
from ([S] stated in the paper, [I] inferred, [C] our choice) is written beside it in the presets.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from volta3d.errors import ConfigError, nearest
from volta3d.files import content_hash

Range = tuple[float, float]
Probability = typing.Annotated[float, Field(ge=0, le=1)]
Positive = typing.Annotated[float, Field(gt=0)]
Count = typing.Annotated[int, Field(ge=0)]
Some = typing.Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of every configuration: frozen, strict about keys, hashable by content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode="json")

    def hash(self) -> str:
        """A short hash of the resolved content."""
        return content_hash(self.content())

    def to_yaml(self) -> str:
        """The resolved configuration as YAML, keys in the order of the class."""
        return yaml.safe_dump(self.content(), sort_keys=False)


class PrepareConfig(Config):
    """How raw scans become a cohort (METHOD section 1)."""

    spacing: Positive = 1.0  # [S] 1 mm isotropic
    size: Some = 128  # [C] cube edge in voxels
    fit: Literal["resize", "pad", "none"] = "resize"  # [C]
    scaling: Literal["range", "zscore"] = "range"  # [C] range [0, 1] or z-score
    skull_strip: Literal["none"] = "none"  # [C] the same for every data set of a study
    percentiles: Range = (0.05, 99.95)  # [C] of the non-zero voxels
    margin: Count = 2  # [C] voxels kept around the foreground box when fit is resize


class ViewsConfig(Config):
    """The views drawn from one scan (METHOD section 2)."""

    downsample: Some = 1  # average-pool the prepared cube by this factor when loading
    global_size: Some = 96  # [I] 3DINO
    local_size: Some = 48  # [I] 3DINO
    locals: Count = 8  # [I] 3DINO
    global_scale: Range = (0.7, 1.0)  # [C] linear, of the volume
    local_scale: Range = (0.35, 0.6)  # [C]
    isotropic: bool = False  # one scale for the three axes
    flip: Probability = 0.5  # [C] left-right
    rotation: float = Field(default=10.0, ge=0, le=45)  # [C] degrees, uniform in +- about each axis
    intensity: float = Field(default=1.0, ge=0, le=1)  # strength of every intensity operation
    contrast: Probability = 0.8  # [C] one of gamma, histogram shift, noise
    smooth: tuple[Probability, Probability, Probability] = (1.0, 0.1, 0.5)  # [C] g1, g2, locals
    gibbs: Probability = 0.2  # [C] on global 2
    bias: Probability = 0.5  # [C] smooth bias field


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
    prototypes: Some = 8192  # [I]

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
    teacher_temperature: Range = (0.04, 0.07)  # [I] start, end
    teacher_temperature_epochs: Count = 30  # [I] linear
    center_momentum: float = Field(default=0.9, ge=0, lt=1)  # [I]
    patch_tokens: Literal["all", "masked"] = "all"  # [I] MC-SSL; masked is iBOT
    cls_student: Literal["corrupted", "clean"] = "corrupted"  # clean: a second student pass
    bottleneck: Literal["plain", "standardised"] = "plain"  # before the L2 normalisation
    bottleneck_momentum: float = Field(default=0.9, ge=0, lt=1)
    bottleneck_epsilon: Positive = 0.1  # of the mean variance
    cls_start_epoch: Count = 0  # CLS loss off before
    cls_ramp_epochs: Count = 0  # then linear from 0 to its weight


class OptimConfig(Config):
    """Optimiser, schedules and the teacher's momentum (METHOD section 6)."""

    warmup_epochs: float = Field(default=10, ge=0)  # [S]
    lr_end: float = Field(default=1e-6, ge=0)  # [C]
    betas: Range = (0.9, 0.999)  # [S] AdamW
    weight_decay: Range = (0.04, 0.4)  # [I] cosine from, to
    clip: float = Field(default=3.0, ge=0)  # [I] 0 turns it off
    clip_by: Literal["parameter", "global"] = "parameter"  # [I] DINO
    freeze_last_layer_epochs: Count = 1  # [I]
    momentum: Range = (0.996, 1.0)  # [S] form, [I] values
    cadence: Literal["micro_step", "optimiser_step"] = "micro_step"  # [S] EMA and centre update


class MonitorConfig(Config):
    """What is watched while training (METHOD sections 6 and 10)."""

    every_epochs: Some = 1
    scans: Some = 128  # at most, for the feature monitors
    probe: str = ""  # a column of participants.tsv, e.g. age; empty: the first usable one
    alarm: Literal["stop", "warn"] = "warn"
    alarm_after_epochs: Count = 20  # a fresh network is always in alarm


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
    checkpoint_minutes: Positive = 10.0
    checkpoint_steps: Count = 0  # also after every so many optimiser steps; 0: by time alone
    keep_checkpoints: Some = 2
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

        How often checkpoints are written, how loudly alarms ring and the device are left out.
        """
        content = self.content()
        for free in ("checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "device"):
            content.pop(free)
        for free in ("alarm", "alarm_after_epochs"):
            content["monitor"].pop(free)
        return content


C = TypeVar("C", bound=Config)


def presets() -> list[str]:
    """The names of the presets that ship with the package."""
    folder = resources.files("volta3d") / "presets"
    names = [p.name for p in folder.iterdir()]
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def load_pretrain(preset: str = "paper", assignments: Iterable[str] = ()) -> PretrainConfig:
    """A preset (a shipped name or a YAML file) with ``key=value`` assignments on top.

    Raises:
        ConfigError: no such preset, an unknown key, or a value of the wrong kind.
    """
    if preset in presets():
        text = (resources.files("volta3d") / "presets" / f"{preset}.yaml").read_text("utf-8")
        content = {"preset": preset, **parse_yaml(text, where=preset)}
    elif Path(preset).suffix in {".yaml", ".yml"} and Path(preset).is_file():
        content = parse_yaml(Path(preset).read_text("utf-8"), where=preset)
    else:
        raise ConfigError("No such preset", where=preset, fix=nearest(preset, presets()))
    return build(PretrainConfig, content, assignments)


def parse_yaml(text: str, *, where: object) -> dict[str, Any]:
    """Parse YAML that must be a mapping; only plain data, never objects.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"Not readable as YAML: {error}", where=where, fix="Fix it") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError("Not a mapping of keys to values", where=where, fix="Write 'key: value'")
    return content


def build(kind: type[C], content: Mapping[str, Any], assignments: Iterable[str] = ()) -> C:
    """Validate ``content`` as ``kind`` after applying dotted ``key=value`` assignments.

    Raises:
        ConfigError: an unknown key (with the nearest valid name), or a wrong value.
    """
    merged = _copy(content)
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise ConfigError("--set takes key=value", where=assignment, fix="Write key=value")
        _assign(merged, key.strip(), _value(value, assignment))
    _check_keys(kind, merged, prefix="")
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{message}{got}", where=where, fix=f"Set {where} anew") from error


def _value(text: str, assignment: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("The value is not YAML", where=assignment, fix="Quote it") from error
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            return value
    return value


def _copy(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in content.items()}


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError("Not a group of settings", where=dotted, fix="Check the dots")
    content[last] = value


def _check_keys(kind: type[Config], content: Mapping[str, Any], prefix: str) -> None:
    for key, value in content.items():
        if key not in kind.model_fields:
            names = _dotted_names(kind, prefix)
            where = f"{prefix}{key}"
            raise ConfigError("Unknown key", where=where, fix=nearest(where, names))
        nested = kind.model_fields[key].annotation
        if _is_config(nested) and isinstance(value, Mapping):
            _check_keys(nested, value, prefix=f"{prefix}{key}.")


def _is_config(kind: object) -> typing.TypeGuard[type[Config]]:
    if not isinstance(kind, type) or isinstance(kind, types.GenericAlias):
        return False
    return issubclass(kind, Config)


def _dotted_names(kind: type[Config], prefix: str = "") -> list[str]:
    names = []
    for name, field in kind.model_fields.items():
        if _is_config(field.annotation):
            names += _dotted_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names
