"""Arms made concrete: which network, which input, which weights it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from volta3d.cohort.store import Cohort
from volta3d.config import ClassifyConfig, ModelConfig, build, load_pretrain
from volta3d.downstream.arms import ENCODER, Arm, parse_arms
from volta3d.downstream.classification.classifier import Classifier, VitClassifier, fresh_vit
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.matching import check_contract
from volta3d.errors import CohortError, UsageError
from volta3d.randomness import derived_seed

WORDS = ("scratch", "swin", "volume")
USES = ("linear",)
VOLUMES = ("foreground_mm3", "brain_mm3")
HOWS = ("frozen", "last", "full")
Kind = Literal["vit", "swin", "linear", "volume"]


@dataclass(frozen=True)
class Contestant:
    """An arm with everything that sets it apart; all else is the same for all arms.

    Args:
        name: of the arm.
        kind: of model.
        tune: ``frozen``, ``last``, ``full``; ``linear`` and ``volume`` are what they are.
        encoder: what it starts from; None starts from scratch.
        model: sizes of the ViT; None for Swin and volume.
        image_size, downsample: how the network wants its cubes; 0 for volume.
        head: what stands before the linear layer; statistics of features that are about to be
            learnt anew mean nothing, so what starts from scratch has the plain one.
        saw: what pretraining saw of this cohort.
        columns: the measured volumes that ``volume`` goes by.
    """

    name: str
    kind: Kind
    tune: str
    encoder: LoadedEncoder | None = None
    model: ModelConfig | None = None
    image_size: int = 0
    downsample: int = 1
    head: str = "layernorm"
    saw: str = "none"
    columns: tuple[str, ...] = ()

    def declared(self) -> dict[str, Any]:
        """All that sets this arm apart, as plain JSON types."""
        sha = self.encoder.config["weights_sha256"] if self.encoder is not None else ""
        return {
            "kind": self.kind,
            "tune": self.tune,
            "encoder_sha256": sha,
            "model": self.model.content() if self.model is not None else None,
            "image_size": self.image_size,
            "downsample": self.downsample,
            "head": self.head,
            "pretraining_saw": self.saw,
            "columns": list(self.columns),
        }

    def network(self, config: ClassifyConfig, outputs: int, seed: int) -> Classifier:
        """A network ready to be trained, a pure function of the arguments.

        Args:
            config: pooling and how many blocks are tuned.
            outputs: classes, or 1.
            seed: of the head, and of everything when it starts from scratch.
        """
        if self.kind == "swin":
            from volta3d.downstream.classification.swin import SwinClassifier

            return SwinClassifier(outputs=outputs, seed=seed, head_seed=seed)
        assert self.model is not None
        if self.encoder is not None:
            encoder, summariser = self.encoder.vit, self.encoder.summariser
        else:
            encoder, summariser = fresh_vit(self.model, self.image_size, derived_seed(seed, "vit"))
        return VitClassifier(
            encoder,
            summariser,
            pooling=config.pooling,
            outputs=outputs,
            tune="frozen" if self.tune == "linear" else self.tune,  # type: ignore[arg-type]
            blocks=config.blocks,
            seed=seed,
        )


def resolve(
    texts: Sequence[str], cohort: Cohort, config: ClassifyConfig, rows: np.ndarray
) -> list[Contestant]:
    """The arms of a command line, checked against the cohort.

    ``scratch`` and ``swin`` take architecture and input from the first encoder among the arms, so
    that nothing but the weights differs; ``scratch:PRESET`` takes those of a preset.

    Args:
        texts: each ``NAME=SPEC``.
        cohort: the scans.
        config: of the run.
        rows: [n] the cohort's index of each labelled scan.

    Raises:
        UsageError: not an arm, ``scratch`` without anything to be identical to, or ``volume`` where
            no volume is known for every labelled scan.
        EncoderError: an encoder is damaged or contradicts the cohort.
        CohortError: the cohort's cubes are too small for a preset.
    """
    arms = parse_arms(texts, words=WORDS, uses=USES, hows=HOWS)
    found: dict[str, Contestant] = {}
    loaded: dict[str, LoadedEncoder] = {}
    for arm in arms:
        if arm.kind in (ENCODER, "linear"):
            if arm.source not in loaded:
                loaded[arm.source] = load_encoder(arm.path)
                check_contract(loaded[arm.source], cohort)
            found[arm.name] = _of_encoder(arm, loaded[arm.source], cohort, config)
        elif arm.kind == "scratch" and arm.source:
            found[arm.name] = _of_preset(arm, cohort)
        elif arm.kind == "volume":
            columns = volume_columns(cohort, rows)
            found[arm.name] = Contestant(arm.name, "volume", "volume", columns=columns)
    like = next((c for c in found.values() if c.kind == "vit"), None)
    like = like or next((c for c in found.values() if c.kind == "linear"), None)
    for arm in arms:
        if arm.name not in found:
            found[arm.name] = _like(arm, like, cohort, config)
    return [found[arm.name] for arm in arms]


def volume_columns(cohort: Cohort, rows: np.ndarray) -> tuple[str, ...]:
    """The measured volumes that are known for every labelled scan.

    Raises:
        UsageError: there is none.
    """
    found = tuple(c for c in VOLUMES if _known(cohort, rows, c).all())
    if not found:
        raise UsageError(
            "No head or brain volume is known for all labelled scans",
            where="volume",
            fix="Leave the volume arm out, or prepare the cohort again",
        )
    return found


def unused_volumes(
    contestants: Sequence[Contestant], cohort: Cohort, rows: np.ndarray
) -> list[str]:
    """A sentence for each volume that is known for some labelled scans only, and so is not used."""
    if not any(c.kind == "volume" for c in contestants):
        return []
    known = {c: int(_known(cohort, rows, c).sum()) for c in VOLUMES}
    return [
        f"{column} is known for {count} of {len(rows)} scans only: the volume arm goes without it"
        for column, count in known.items()
        if 0 < count < len(rows)
    ]


def _known(cohort: Cohort, rows: np.ndarray, column: str) -> np.ndarray:
    values = cohort.participants.iloc[rows][column].to_numpy(np.float64)
    known: np.ndarray = np.isfinite(values) & (values > 0)
    return known


def _of_encoder(
    arm: Arm, loaded: LoadedEncoder, cohort: Cohort, config: ClassifyConfig
) -> Contestant:
    return Contestant(
        name=arm.name,
        kind="linear" if arm.kind == "linear" else "vit",
        tune="linear" if arm.kind == "linear" else arm.how or config.tune,
        encoder=loaded,
        model=build(ModelConfig, loaded.config["model"]),
        image_size=loaded.image_size,
        downsample=loaded.downsample,
        head=config.head,
        saw=loaded.saw(cohort),
    )


def _of_preset(arm: Arm, cohort: Cohort) -> Contestant:
    preset = load_pretrain(arm.source)
    size, pooled = preset.views.global_size, preset.views.downsample
    if cohort.contract.size % pooled or cohort.contract.size // pooled < size:
        raise CohortError(
            f"Preset '{arm.source}' wants cubes of {size * pooled} voxels or more, the cohort has "
            f"{cohort.contract.size}",
            where=cohort.path,
            fix="Choose a smaller preset, or prepare the cohort with a larger size",
        )
    return Contestant(
        arm.name,
        "vit",
        arm.how or "full",
        model=preset.model,
        image_size=size,
        downsample=pooled,
    )


def _like(arm: Arm, like: Contestant | None, cohort: Cohort, config: ClassifyConfig) -> Contestant:
    if arm.kind == "scratch":
        if like is None:
            raise UsageError(
                "'scratch' is the network of an encoder arm before its training; there is none",
                where=arm.name,
                fix=f"Add an encoder as an arm, or name a preset: --arm {arm.name}=scratch:small",
            )
        still = arm.how in ("linear", "frozen")  # its features never change
        return replace(
            like,
            name=arm.name,
            kind="linear" if arm.how == "linear" else "vit",
            tune=arm.how or "full",
            encoder=None,
            head=config.head if still else "layernorm",
            saw="none",
        )
    size = like.image_size if like is not None else cohort.contract.size
    pooled = like.downsample if like is not None else 1
    size = config.swin_size or size
    while cohort.contract.size % (2 * pooled) == 0 and cohort.contract.size // (2 * pooled) >= size:
        pooled *= 2
    return Contestant(arm.name, "swin", "full", image_size=size, downsample=pooled)
