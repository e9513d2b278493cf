"""Metrics as text for a terminal, whatever kind of run they are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volta3d.evaluate.classification import summary_lines as classification
from volta3d.evaluate.segmentation import summary_lines as segmentation
from volta3d.evaluate.subgroups import subgroup_lines


def render(metrics: Mapping[str, Any]) -> str:
    """The main table, then the comparisons, then where the numbers come from."""
    task = segmentation if metrics["kind"] == "segmentation" else classification
    return "\n".join([task.render(metrics), *subgroup_lines(metrics)])
