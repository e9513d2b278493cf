"""Self-supervised pretraining of 3D vision transformers on brain MRI."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volta3d.api import classify, embed, import_encoder, load_encoder, predict, probe, segment
    from volta3d.encoder.embedder import Embedder
    from volta3d.encoder.estimators import EncoderClassifier, EncoderRegressor

__version__ = "0.1.0"
__all__ = [
    "Embedder",
    "EncoderClassifier",
    "EncoderRegressor",
    "__version__",
    "classify",
    "embed",
    "import_encoder",
    "load_encoder",
    "predict",
    "probe",
    "segment",
]

ESTIMATORS = ("EncoderClassifier", "EncoderRegressor")
FUNCTIONS = ("classify", "embed", "import_encoder", "load_encoder", "predict", "probe", "segment")
ROOMS = ("prepare", "pretrain", "evaluate", "report", "study", "export")  # can be called themselves


def __getattr__(name: str) -> Any:
    """The commands as functions, loaded when first asked for: torch takes seconds to import."""
    if name == "Embedder":
        return import_module("volta3d.encoder.embedder").Embedder
    if name in ESTIMATORS:
        return getattr(import_module("volta3d.encoder.estimators"), name)
    if name in FUNCTIONS:
        return getattr(import_module("volta3d.api"), name)
    if name in ROOMS:
        return import_module(f"volta3d.{name}")
    raise AttributeError(f"module 'volta3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *ROOMS])
