"""Quality control pictures: three planes per scan, labels outlined, one page for all."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, image

from volta3d.cohort.contract import Contract

ZSCORE_WINDOW = (-2.0, 4.0)


def mosaic(volume: np.ndarray, label: np.ndarray | None, contract: Contract) -> np.ndarray:
    """A sagittal, coronal and axial plane side by side, uint8 [size or 2 size, 3 size, 3].

    Front and the patient's right are on the right-hand side, up is up. With a label map the planes
    are those with most labelled voxels, and a second row shows its outlines.
    """
    low, high = contract.value_range or ZSCORE_WINDOW
    at = [n // 2 for n in volume.shape]
    if label is not None and label.any():
        others = [tuple(a for a in range(3) if a != axis) for axis in range(3)]
        at = [int(np.count_nonzero(label, axis=o).argmax()) for o in others]
    grey = np.clip((_planes(volume, at) - low) / (high - low), 0, 1)
    picture = np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    if label is None:
        return picture
    cut, outlined = _planes(label, at), picture.copy()
    edge = outline(cut)
    outlined[edge] = (255 * colormaps["tab20"](cut[edge] % 20)[:, :3]).astype(np.uint8)
    return np.concatenate([picture, outlined])


def outline(labels: np.ndarray) -> np.ndarray:
    """Pixels of a label that touch another label, bool like ``labels`` [H, W]."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            edge |= np.roll(labels, step, axis=axis) != labels
    found: np.ndarray = edge & (labels > 0)
    return found


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as PNG."""
    image.imsave(str(path), picture, format="png")


def page(participants: pd.DataFrame, pictures: Sequence[str], quarantine: pd.DataFrame) -> str:
    """The QC page: one picture per scan with its findings, then what was refused.

    Args:
        participants: rows of the cohort.
        pictures: file names beside the page, one per row.
        quarantine: what could not be prepared.
    """
    figures = []
    for row, picture in zip(participants.to_dict("records"), pictures, strict=True):
        age = "" if row["age"] != row["age"] else f"{row['age']:.0f} y"
        facts = [row["scan_id"], row["sex"], age, row["site"], row["findings"]]
        text = html.escape(" · ".join(str(f) for f in facts if f))
        figures.append(
            f'<figure><img loading="lazy" src="{html.escape(picture)}" alt="{text}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    refused = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in quarantine.itertuples(index=False)
    )
    table = f"<h2>Quarantined: {len(quarantine)}</h2><table>{refused}</table>" if refused else ""
    return _PAGE.format(count=len(participants), figures="".join(figures), table=table)


def _planes(volume: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """One plane across each axis side by side, the last axis drawn upwards."""
    cuts = [np.take(volume, index, axis=axis).T[::-1] for axis, index in enumerate(at)]
    return np.concatenate(cuts, axis=1)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Prepared scans</title><style>
body {{ background: #111; color: #ddd; font: 14px system-ui, sans-serif; margin: 1.5rem }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: 1rem }}
figure {{ margin: 0 }} img {{ width: 100%; image-rendering: pixelated }}
td {{ padding: .2rem .8rem .2rem 0; vertical-align: top }}
</style></head><body>
<h1>Prepared scans: {count}</h1>
<p>A sagittal, a coronal and an axial plane: the middle ones, or those with most labels. The front
is on the right of the first, the patient's right on the right of the others. Outlines are label
maps. Faces may be visible: share with care.</p>
{table}<main>{figures}</main></body></html>
"""
