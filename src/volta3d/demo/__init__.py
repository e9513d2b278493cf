"""The whole pipeline on synthetic brains: what a newcomer runs first, on a CPU, in minutes."""

from volta3d.demo.run import DemoResult, demo

__all__ = ["DemoResult", "demo"]
