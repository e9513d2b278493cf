"""The views of a batch of scans, made on the device that holds the volumes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volta3d.config import MaskingConfig, ViewsConfig
from volta3d.views.geometry import resample
from volta3d.views.head import Head
from volta3d.views.intensity import Intensity, apply_intensity
from volta3d.views.key import GLOBALS
from volta3d.views.masking import corrupt, draw_masks
from volta3d.views.parameters import ViewParameters, view_parameters


@dataclass(frozen=True)
class ViewBatch:
    """The views of B scans, view-major: index = view * B + scan.

    Args:
        global_views: float32 [2B, 1, S, S, S], clean.
        corrupted: the same with GMML applied; unmasked voxels are bitwise equal.
        masks: bool [2B, 1, S, S, S], True = replaced.
        local_views: float32 [N·B, 1, s, s, s]; None when N is 0.
    """

    global_views: Tensor
    corrupted: Tensor
    masks: Tensor
    local_views: Tensor | None


@dataclass(frozen=True)
class _Levels:
    """Black and white of each volume, [B, 1, 1, 1, 1]."""

    low: Tensor
    high: Tensor
    is_unit: bool  # exactly [0, 1]: nothing to convert

    def repeat(self, count: int) -> tuple[Tensor, Tensor]:
        """The levels of ``count`` views of each scan, view-major."""
        return self.low.repeat(count, 1, 1, 1, 1), self.high.repeat(count, 1, 1, 1, 1)


@torch.no_grad()
def make_views(
    volumes: Tensor,
    scan_ids: Sequence[str],
    *,
    epoch: int,
    seed: int,
    views: ViewsConfig,
    masking: MaskingConfig,
    value_range: tuple[float, float] | None = (0.0, 1.0),
    heads: Sequence[Head] | None = None,
) -> ViewBatch:
    """Two corrupted globals and N locals of each scan (METHOD sections 2 and 3).

    Args:
        volumes: floating point [B, 1, D, H, W] on any device, RAS+ (axis 0 is left-right); other
            precisions become float32. Never changed.
        scan_ids: B names. A scan's draws depend on (seed, epoch, scan id, view) alone, not on
            the batch it is in; equal names draw alike, so names must be unique in a cohort.
        value_range: the range of the cohort, where results of intensity operations end. None
            (z-scored cohorts): each volume's own minimum and maximum stand in. The lower end is
            black: it fills what lies outside the volume, and masked voxels under fill ``zeros``.
        heads: of the B scans; needed where views are described in millimetres.

    Raises:
        ValueError: heads are needed and missing; the volumes are not [B, 1, D, H, W] with B scan
            ids, or not floating point.
    """
    if volumes.ndim != 5 or volumes.shape[:2] != (len(scan_ids), 1) or not scan_ids:
        raise ValueError(f"volumes {tuple(volumes.shape)} do not fit {len(scan_ids)} scan ids")
    if not volumes.is_floating_point():
        raise ValueError(f"volumes are {volumes.dtype}; scale them to floating point first")
    # one scan after the other stays in a CPU's cache; an accelerator wants all of them at once
    alone = one_by_one(volumes.device)
    at_once = 1 if alone else len(scan_ids)
    parts = []
    draw = partial(
        view_parameters, epoch=epoch, seed=seed, views=views, masking=masking, mask=alone
    )
    known: Sequence[Head | None] = heads or [None] * len(scan_ids)
    for start in range(0, len(scan_ids), at_once):
        part = slice(start, start + at_once)
        drawn = [
            [draw(scan, view, head=head) for view in range(GLOBALS + views.locals)]
            for scan, head in zip(scan_ids[part], known[part], strict=True)
        ]
        with exact(volumes.device):  # autocast would blur in bfloat16
            parts.append(_views(volumes[part].float(), drawn, masking, value_range))
    return parts[0] if len(parts) == 1 else _joined(parts)


def _views(
    volumes: Tensor,
    drawn: list[list[ViewParameters]],
    masking: MaskingConfig,
    value_range: tuple[float, float] | None,
) -> ViewBatch:
    levels = _levels(volumes, value_range)
    parameters = [row[:GLOBALS] for row in drawn]
    clean = _cut(volumes, parameters, levels)
    masks = _masks(_view_major(parameters), masking, clean.device)
    corrupted = _corrupt(clean, masks, parameters, levels)
    parameters = [row[GLOBALS:] for row in drawn]
    return ViewBatch(
        global_views=clean,
        corrupted=corrupted,
        masks=masks,
        local_views=_cut(volumes, parameters, levels) if parameters[0] else None,
    )


def _joined(parts: list[ViewBatch]) -> ViewBatch:
    """The views of single scans as those of a batch, view-major."""

    def joined(name: str) -> Tensor:
        return torch.stack([getattr(part, name) for part in parts], dim=1).flatten(0, 1)

    local = None if parts[0].local_views is None else joined("local_views")
    return ViewBatch(joined("global_views"), joined("corrupted"), joined("masks"), local)


def _levels(volumes: Tensor, value_range: tuple[float, float] | None) -> _Levels:
    if value_range is None:
        low, high = volumes.flatten(1).aminmax(dim=1)
    else:
        low, high = (volumes.new_full((len(volumes),), value) for value in value_range)
    shape = (-1, 1, 1, 1, 1)
    return _Levels(low.view(shape), high.view(shape), value_range == (0.0, 1.0))


def _cut(volumes: Tensor, drawn: list[list[ViewParameters]], levels: _Levels) -> Tensor:
    """The views of one size with their intensities changed, view-major [V·B, 1, S, S, S]."""
    geometries = [[p.geometry for p in row] for row in drawn]
    background = None if levels.is_unit else levels.low
    cut = resample(volumes, geometries, drawn[0][0].size, background)
    flat = _view_major(drawn)
    intensities = [p.intensity for p in flat]
    if all(one == Intensity() for one in intensities):
        return cut
    noise = _generators(flat, "noise", volumes.device)
    if levels.is_unit:
        return apply_intensity(cut, intensities, noise)
    low, high = levels.repeat(len(drawn[0]))
    width = (high - low).clamp_min(1e-12)  # a constant volume stays constant
    cut = apply_intensity((cut - low) / width, intensities, noise) * width + low
    return torch.minimum(torch.maximum(cut, low), high)


def _masks(flat: list[ViewParameters], masking: MaskingConfig, device: torch.device) -> Tensor:
    """bool [n, 1, S, S, S] on the device, drawn there unless they are drawn already."""
    ready = [p.mask.voxels for p in flat if p.mask is not None]
    if ready:
        return torch.from_numpy(np.stack(ready)).to(device)[:, None]
    return draw_masks([p.key.numbers("mask") for p in flat], flat[0].size, masking, device)[:, None]


def _corrupt(
    clean: Tensor, masks: Tensor, drawn: list[list[ViewParameters]], levels: _Levels
) -> Tensor:
    flat = _view_major(drawn)
    fills = [p.fill for p in flat if p.fill is not None]
    noise = _generators(flat, "fill noise", clean.device)
    return corrupt(clean, masks, fills, noise, *levels.repeat(GLOBALS))


def one_by_one(device: torch.device) -> bool:
    """Whether views are made scan by scan: on a CPU, whose cache holds one scan's."""
    return device.type == "cpu"


def _view_major(drawn: list[list[ViewParameters]]) -> list[ViewParameters]:
    return [one for view in zip(*drawn, strict=True) for one in view]


def _generators(
    drawn: list[ViewParameters], purpose: str, device: torch.device
) -> Callable[[int], torch.Generator]:
    return lambda index: drawn[index].key.voxels(purpose, device)


def exact(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """A context in which autocast, where it is on, is off.

    Where it is off already nothing is entered: leaving an autocast context empties a cache that all
    threads share, and a thread that makes views ahead would empty it in the middle of a step.
    """
    if not torch.is_autocast_enabled(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
