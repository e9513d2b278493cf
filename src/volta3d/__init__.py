"""Self-supervised pretraining of 3D vision transformers on brain MRI."""

__version__ = "0.1.0"
