"""The old address of ``load_encoder``: scripts outside the package measure with these two."""

from volta3d.encoder.load import load_encoder, random_encoder

__all__ = ["load_encoder", "random_encoder"]
