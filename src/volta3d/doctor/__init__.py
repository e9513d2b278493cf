"""Before a run: what this machine is, what the run needs of it, and whether its views can teach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.doctor.budget import view_budget
from volta3d.doctor.machine import describe_machine
from volta3d.doctor.plan import plan_run
from volta3d.doctor.text import render
from volta3d.pretrain.scale import cube_edges_mm, measured

__all__ = ["doctor", "render"]


def doctor(cohort: Path | None, config: PretrainConfig) -> dict[str, Any]:
    """Measure the machine, and what ``config`` would need on ``cohort``.

    Args:
        cohort: a prepared cohort; without one the plan is per 100 scans and no budget is drawn up.
        config: the run that is planned.

    Returns:
        ``machine``, ``plan``, ``cohort`` (None without one) and ``views`` (None without one), plain
        JSON types; see ``describe_machine``, ``plan_run`` and ``view_budget``.

    Raises:
        CohortError: the cohort is missing or damaged.
    """
    opened = None if cohort is None else Cohort.open(cohort)
    machine = describe_machine(config)
    plan = plan_run(opened, config)
    described = None
    if opened is not None:
        described = {
            "scans": len(opened),
            "edge": opened.contract.size // config.views.downsample,
            "fits_preset": plan["problem"] == "",
            "problem": plan["problem"],
            "scale": measured(config, cube_edges_mm(opened)).content(),
        }
    usable = opened is not None and plan["problem"] == ""
    views = view_budget(opened, config) if opened is not None and usable else None
    return {"machine": machine, "plan": plan, "cohort": described, "views": views}
