"""The preparation contract: what was done to every scan of a cohort, and how to repeat it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from volta3d import __version__
from volta3d.config import PrepareConfig
from volta3d.config.base import Config, Count, Positive, Range, Some

RANGE_LEVELS = 65535
_DESCRIPTIVE = ("software", "synthetic", "label_names")
# Fields that younger versions added: not written while they change nothing, so that a cohort of an
# older version keeps its hash.
_ADDED = {"bias": "none", "landmarks": ()}


class Contract(Config):
    """How the scans of a cohort were prepared (METHOD section 1).

    Volumes are cubes of ``size`` voxels per edge whose axes point to the right, to the front and
    up (RAS+): axis 0 is x, axis 1 is y, axis 2 is z. The voxel edge of a scan is ``spacing`` mm,
    or coarser for ``fit: resize`` when the head is larger than the cube; its affine says which.
    """

    orientation: Literal["RAS"] = "RAS"
    spacing: Positive = 1.0
    size: Some = 128
    fit: Literal["resize", "pad", "none"] = "resize"
    scaling: Literal["range", "zscore", "nyul"] = "range"
    skull_strip: Literal["none", "deepbet", "mask"] = "none"
    bias: Literal["none", "n4"] = "none"
    percentiles: Range = (0.05, 99.95)
    margin: Count = 2
    landmarks: tuple[float, ...] = ()  # of nyul: where every scan's 0, deciles and 1 are moved
    value_range: Range | None = (0.0, 1.0)
    storage: Literal["uint16", "float16"] = "uint16"
    synthetic: bool = False
    software: str = f"volta3d {__version__}"
    label_names: dict[int, str] = Field(default_factory=dict)

    @classmethod
    def from_config(
        cls,
        config: PrepareConfig,
        *,
        synthetic: bool = False,
        label_names: dict[int, str] | None = None,
        landmarks: tuple[float, ...] = (),
    ) -> Self:
        """The contract that preparing with ``config`` signs."""
        ranged = config.scaling != "zscore"
        return cls(
            **config.model_dump(exclude={"landmarks_from"}),
            landmarks=landmarks,
            value_range=(0.0, 1.0) if ranged else None,
            storage="uint16" if ranged else "float16",
            synthetic=synthetic,
            label_names=label_names or {},
        )

    @model_serializer(mode="wrap")
    def _without_what_changes_nothing(
        self, serialise: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        idle = {name for name, value in _ADDED.items() if getattr(self, name) == value}
        return {name: value for name, value in content.items() if name not in idle}

    def preparation(self) -> dict[str, Any]:
        """The part that decides what a voxel means: geometry and intensity, as plain JSON types.

        The software version, the names of labels and whether the scans are synthetic are left out.
        """
        return {k: v for k, v in self.content().items() if k not in _DESCRIPTIVE}

    def differences(self, other: Contract) -> list[str]:
        """What two preparations do differently, one ``key: mine -> theirs`` per line."""
        mine, theirs = self.preparation(), other.preparation()
        names = [name for name in type(self).model_fields if name in mine or name in theirs]
        pairs = [(n, mine.get(n, _ADDED.get(n)), theirs.get(n, _ADDED.get(n))) for n in names]
        return [f"{name}: {ours} -> {others}" for name, ours, others in pairs if ours != others]
