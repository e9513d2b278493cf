"""Settings of ``volta3d classify``, and its presets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from volta3d.config.base import (
    Config,
    Count,
    Fractions,
    Positive,
    Probability,
    Range,
    Some,
    load_preset,
    preset_names,
)

ClassName = Annotated[str, Field(coerce_numbers_to_str=True)]
CLASSIFY_FOLDER = "presets/classify"


class AugmentConfig(Config):
    """How training scans are varied, by one bounded resampling and mild intensity changes."""

    enabled: bool = True
    flip: Probability = 0.5  # [C] left-right
    rotation: float = Field(default=10.0, ge=0, le=45)  # [C] degrees, uniform in +- about each axis
    scale: Range = (0.9, 1.0)  # [C] linear, of the cube
    intensity: float = Field(default=0.3, ge=0, le=1)  # [C] strength
    contrast: Probability = 0.5  # [C] one of gamma, histogram shift, noise
    smooth: Probability = 0.1  # [C]
    bias: Probability = 0.3  # [C] smooth bias field


class ClassifyConfig(Config):
    """Everything ``volta3d classify`` needs besides cohort, target and arms (METHOD section 7)."""

    preset: str = "paper"
    folds: Some = 5  # [S]
    fractions: Fractions = (1.0,)  # [S] of the whole training part; test folds stay
    seeds: Some = 1  # [C] at least 3 for reduced data
    epochs: Some = 50  # [S]
    batch_size: Some = 8  # [C]
    lr: Positive = 1e-4  # [C]
    weight_decay: float = Field(default=1e-5, ge=0)  # [C]
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # [C]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    # of every ViT arm, pretrained or not, whose SPEC doesn't say [C]
    tune: Literal["frozen", "last", "full"] = "full"
    blocks: Some = 4  # [C] the last blocks that `last` tunes, with the final norm
    pooling: Literal["token", "mean", "concat", "regions"] = "token"  # [C]
    swin_size: Count = 0  # edge of Swin's cube; 0: that of the other arms
    head: Literal["layernorm", "standardised"] = "layernorm"  # [C] before the linear layer
    class_weights: Literal["balanced", "none"] = "none"  # [S] balanced for AIBL alone
    # last: the whole training part is fitted [S]; inner: a fifth of it chooses the epoch [C]
    epoch: Literal["inner", "last"] = "last"
    # with epoch=last: refits inside the training part that give Youden's threshold [C]; 0: none
    threshold_folds: Count = 3
    patience: Count = 0  # [C] stop after so many epochs without a better one; 0: never
    task: Literal["auto", "classification", "regression"] = "auto"
    classes: tuple[ClassName, ...] = ()  # only these; the last is the positive one
    conflicts: Literal["refuse", "drop"] = "refuse"  # a subject with two labels
    visits: Literal["all", "first"] = "all"  # first: one scan a person, the first with a class
    final_model: bool = True  # also fit on everybody, for predict
    keep_weights: bool = True  # of each fold, for the whole training part and the first seed
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _patience(self) -> Self:
        if self.patience and self.epoch == "last":
            raise ValueError("patience stops at the best epoch of inner validation: epoch=inner")
        return self

    @classmethod
    def before(cls) -> dict[str, Any]:
        """The defaults, which settings younger than a run had in it."""
        return cls().content()

    def science(self) -> dict[str, Any]:
        """What two calls on one run folder must share; fractions, seeds and arms may be added."""
        content = self.content()
        free = ("preset", "fractions", "seeds", "device", "final_model", "keep_weights")
        for name in (*free, "swin_size"):  # the last is declared by the arms that have it
            content.pop(name)
        return content


def classify_presets() -> list[str]:
    """The names of the presets of ``classify`` that ship with the package."""
    return preset_names(CLASSIFY_FOLDER)


def load_classify(preset: str = "paper", assignments: Iterable[str] = ()) -> ClassifyConfig:
    """A preset (a shipped name or a YAML file) with ``key=value`` assignments on top.

    Raises:
        ConfigError: no such preset, an unknown key, or a value of the wrong kind.
    """
    return load_preset(ClassifyConfig, CLASSIFY_FOLDER, preset, assignments)
