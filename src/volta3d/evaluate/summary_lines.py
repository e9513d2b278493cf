"""Metrics as text for a terminal, whatever kind of run they are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volta3d.evaluate.classification import summary_lines as classification
from volta3d.evaluate.segmentation import summary_lines as segmentation


def render(metrics: Mapping[str, Any]) -> str:
    """The main table, then the comparisons, then where the numbers come from."""
    if metrics["kind"] == "segmentation":
        return segmentation.render(metrics)
    return classification.render(metrics)
