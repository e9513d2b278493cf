"""Which way a brain is shown: one left-right convention for every picture, with its letters.

Volumes are RAS+: axis 0 points to the patient's right, axis 1 to the front, axis 2 up. Radiological
pictures show the patient's right on the left, as if one stood at the feet; neurological ones on the
right. In both the sagittal plane has the front on the right, and up is up.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from volta3d.errors import UsageError

Plane = Literal["sagittal", "coronal", "axial"]
Convention = Literal["radiological", "neurological"]
PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
CONVENTIONS: tuple[Convention, ...] = ("radiological", "neurological")
MIRRORED = (
    "These are augmented views that may be mirrored, so left and right are not marked. A is front, "
    "P back, S up, I down."
)
SETTING = "VOLTA3D_CONVENTION"  # the environment variable that decides for every picture


@dataclass(frozen=True)
class Edges:
    """The letters at the edges of a picture: R, L, A, P, S or I."""

    left: str
    right: str
    top: str
    bottom: str


def convention() -> Convention:
    """The convention of all pictures: ``VOLTA3D_CONVENTION``, radiological where it is not set.

    Raises:
        UsageError: it is set to something else.
    """
    chosen = os.environ.get(SETTING, "").strip().lower() or CONVENTIONS[0]
    for known in CONVENTIONS:
        if chosen == known:
            return known
    raise UsageError(
        "There is no such left-right convention",
        where=f"{SETTING}={chosen}",
        fix=f"Set it to {' or '.join(CONVENTIONS)}, or unset it",
    )


def edges(plane: Plane) -> Edges:
    """What each edge of a plane's picture shows, under the convention that is set."""
    if plane == "sagittal":
        return Edges("P", "A", "S", "I")
    left, right = ("R", "L") if convention() == "radiological" else ("L", "R")
    return Edges(left, right, "S", "I") if plane == "coronal" else Edges(left, right, "A", "P")


def sentence() -> str:
    """What a page says about its pictures."""
    side = "left" if convention() == "radiological" else "right"
    return (
        f"{convention().capitalize()} convention: in coronal and axial planes the patient's right "
        f"(R) is on the {side} of the picture. A is front, P back, S up, I down. "
        f"{SETTING} sets it for every picture."
    )


def cut(volume: np.ndarray, plane: Plane, index: int | None = None) -> np.ndarray:
    """A plane of a volume as a picture, under the convention that is set.

    Args:
        volume: [D, H, W] or [D, H, W, channels], RAS+.
        plane: which way to cut.
        index: the position along the axis that is cut; the middle by default.

    Returns:
        [rows from the top, columns from the left], channels kept last.
    """
    axis = PLANES.index(plane)
    position = volume.shape[axis] // 2 if index is None else index
    picture: np.ndarray = np.swapaxes(np.take(volume, position, axis=axis), 0, 1)[::-1]
    if plane != "sagittal" and convention() == "radiological":
        picture = picture[:, ::-1]
    return picture
