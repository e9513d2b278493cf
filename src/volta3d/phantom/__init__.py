"""Synthetic brains with known truth, for the demonstration and the tests."""

from volta3d.phantom.generate import generate

__all__ = ["generate"]
