"""Self-supervised pretraining of 3D vision transformers on brain MRI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volta3d.encoder.embedder import Embedder

__version__ = "0.1.0"
__all__ = ["Embedder", "__version__"]


def __getattr__(name: str) -> Any:
    """``volta3d.Embedder``, loaded when it is first asked for: torch takes seconds to import."""
    if name == "Embedder":
        from volta3d.encoder.embedder import Embedder

        return Embedder
    raise AttributeError(f"module 'volta3d' has no attribute {name!r}")
