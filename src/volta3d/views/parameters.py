"""Everything that is drawn for one view, as a plain value to show, plot or compare."""

from __future__ import annotations

from dataclasses import dataclass

from volta3d.config import MaskingConfig, ViewsConfig
from volta3d.views.geometry import Geometry, draw_geometry
from volta3d.views.head import Head
from volta3d.views.intensity import Intensity, draw_intensity
from volta3d.views.key import GLOBALS, ViewKey
from volta3d.views.masking import Fill, Mask, draw_fill, draw_mask


@dataclass(frozen=True)
class ViewParameters:
    """What was drawn for one view.

    Args:
        key: which view of which scan in which epoch; ``key.name`` is ``global1``, ``local3``, ...
        size: edge of the view in voxels.
        geometry: where it lies.
        intensity: what is done to its grey values.
        fill: what replaces its masked voxels; None for locals, which are not masked.
        mask: its GMML mask; None for locals, and where it is drawn elsewhere.
    """

    key: ViewKey
    size: int
    geometry: Geometry
    intensity: Intensity
    fill: Fill | None
    mask: Mask | None


def view_parameters(
    scan_id: str,
    view: int,
    *,
    epoch: int,
    seed: int,
    views: ViewsConfig,
    masking: MaskingConfig,
    mask: bool = True,
    head: Head | None = None,
) -> ViewParameters:
    """Draw one view: a pure function of its arguments (METHOD sections 2 and 3).

    Args:
        view: 0 and 1 are the globals, 2 and above the locals.
        mask: whether a global's mask is drawn here; a device draws those of many views at once.
        head: of the scan; needed where views are described in millimetres.
    """
    key = ViewKey(seed, epoch, scan_id, view)
    is_global = view < GLOBALS
    intensity = draw_intensity(
        key.numbers("intensity"),
        views,
        smooth=views.smooth[min(view, GLOBALS)],
        gibbs=views.gibbs if view == 1 else 0.0,
    )
    size = views.global_size if is_global else views.local_size
    scale = scale_range(views, is_global, head)
    return ViewParameters(
        key=key,
        size=size,
        geometry=draw_geometry(
            key.numbers("geometry"), views, scale, head if views.spacing_mm else None
        ),
        intensity=intensity,
        fill=draw_fill(key.numbers("fill"), masking) if is_global else None,
        mask=draw_mask(key.numbers("mask"), size, masking) if is_global and mask else None,
    )


def scale_range(views: ViewsConfig, is_global: bool, head: Head | None) -> tuple[float, float]:
    """The range of a view's edge as a fraction of its volume's edge.

    Raises:
        ValueError: views in millimetres, and the head is not known.
    """
    if not views.spacing_mm:
        chosen = views.global_scale if is_global else views.local_scale
        assert chosen is not None  # one of the two ways is always set
        return chosen
    if head is None:
        raise ValueError("views in millimetres need to know how large the scans are")
    size = views.global_size if is_global else views.local_size
    low, high = views.spacing_mm if is_global else (views.local_spacing_mm or views.spacing_mm)
    return low * size / head.edge_mm, high * size / head.edge_mm
