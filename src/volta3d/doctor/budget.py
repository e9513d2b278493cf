"""The view budget: do views of one brain resemble each other more than views of different brains?

Self-distillation of the CLS token amplifies what views of a scan share only if the gain
(student temperature / teacher temperature) x ICC exceeds 1 (METHOD section 10).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig, ViewsConfig
from volta3d.model.pair import Network, build_pair
from volta3d.objective.diagnostics import icc
from volta3d.pretrain.data import Scans
from volta3d.pretrain.fabric import build_fabric

SCANS = 48
EPOCHS = (0, 1)  # two globals in each: four views of a scan
BATCH = 4
DRAWS = 200
MILD: dict[str, Any] = {"global_scale": (0.85, 1.0), "isotropic": True, "intensity": 0.0}
NONE: dict[str, Any] = {
    "global_scale": (1.0, 1.0),
    "isotropic": True,
    "intensity": 0.0,
    "flip": 0,
    "rotation": 0,
}


def view_budget(cohort: Cohort, config: PretrainConfig) -> dict[str, Any]:
    """ICC of the untrained encoder's CLS feature, and the gain, for the planned views and others.

    Returns:
        ``scans`` looked at, ``ratio`` of the temperatures, and ``rows``: mappings with ``views``,
        ``planned`` (whether the configuration feeds these to the CLS loss), ``icc``, ``low`` and
        ``high`` (95 % bootstrap over scans) and ``gain``.
    """
    fabric = build_fabric(config)
    scans = Scans([cohort], downsample=config.views.downsample, device=fabric.device, keep="stream")
    chosen = np.sort(np.random.default_rng(config.seed).permutation(len(scans))[:SCANS])
    network = build_pair(config.model, config.views.global_size, config.seed).teacher
    network.to(fabric.device)
    objective = config.objective
    ratio = objective.student_temperature / objective.teacher_temperature[0]
    corrupted = objective.cls_student == "corrupted"
    mild = "one scale" if config.views.spacing_mm else ".85-1"
    plans: list[tuple[str, dict[str, Any], str, bool]] = [
        ("globals as planned", {}, "global_views", True),
        ("globals as planned, corrupted", {}, "corrupted", corrupted),
        ("globals without intensity", {"intensity": 0.0}, "global_views", False),
        (f"globals mild: {mild}, isotropic, no intensity", MILD, "global_views", False),
        ("no augmentation, corrupted", NONE, "corrupted", False),
    ]
    if config.views.locals:
        plans.append(("locals as planned", {"locals": 2}, "local_views", True))
    rows = []
    with torch.no_grad(), fabric.autocast():
        for name, change, kind, planned in plans:
            views = _changed(config.views, change)
            if kind != "local_views":
                views = views.model_copy(update={"locals": 0})
            features = _features(network, scans, chosen, config, views, kind)
            value = icc(features)
            low, high = _interval(features, config.seed)
            rows.append(
                {
                    "views": name,
                    "planned": planned,
                    "icc": value,
                    "low": low,
                    "high": high,
                    "gain": ratio * value,
                }
            )
    return {"scans": len(chosen), "ratio": ratio, "rows": rows}


def _changed(views: ViewsConfig, change: dict[str, Any]) -> ViewsConfig:
    """The views with some settings changed; views in millimetres keep the middle of their range."""
    if views.spacing_mm and "global_scale" in change:
        middle = sum(views.spacing_mm) / 2
        change = {**change, "global_scale": None, "spacing_mm": (middle, middle)}
    return ViewsConfig(**{**views.model_dump(), **change})


def _features(
    network: Network,
    scans: Scans,
    chosen: np.ndarray,
    config: PretrainConfig,
    views: ViewsConfig,
    kind: str,
) -> Tensor:
    """CLS features [views, n, width] of several views of each scan."""
    repeats = []
    for epoch in EPOCHS:
        parts = []
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            batch = scans.views(part, config.model_copy(update={"views": views}), epoch)
            tokens = network.encoder(getattr(batch, kind))
            token = network.summariser(tokens).float().cpu()
            parts.append(token.unflatten(0, (-1, len(part))))
        repeats.append(torch.cat(parts, dim=1))
    return torch.cat(repeats)


def _interval(features: Tensor, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    n = features.shape[1]
    drawn = [icc(features[:, torch.from_numpy(rng.integers(0, n, n))]) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)
