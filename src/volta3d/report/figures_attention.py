"""Where the summariser looks: its learned token's attention over the patches, over anatomy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from volta3d.planes import PLANES, cut
from volta3d.report.evidence import Absent
from volta3d.report.figures_volumes import read_tensors
from volta3d.report.mosaic import Mosaic, window
from volta3d.report.style import number, picture

EPSILON = 1e-5  # of torch's LayerNorm
PREFIX = "summariser."
NEEDED = ("token", "block.norm1.weight", "block.norm1.bias", "block.attention.qkv.weight")


@dataclass(frozen=True)
class Looks:
    """Volumes [n, S, S, S] and where the summariser looked in each.

    Attributes:
        volume: float32.
        shares: float64 [n, g, g, g], times the share of a token that looks everywhere alike.
        patches: float64 [n], over how many patches the attention is spread: exp of its entropy.
        itself: float64 [n], the share that stayed on the learned token.
    """

    volume: np.ndarray
    shares: np.ndarray
    patches: np.ndarray
    itself: np.ndarray


def read_looks(run: Path, pictures: Path | None) -> Looks | Absent:
    """The attention of a finished run's summariser on the scans it kept patch tokens of.

    Args:
        run: the run folder, for encoder/.
        pictures: its patch-tokens.safetensors.
    """
    if pictures is None or not (run / "encoder").is_dir():
        return Absent("Where the summariser looks is known when the run is finished.")
    kept, weights = read_tensors(pictures), read_tensors(run / "encoder" / "model.safetensors")
    unknown = Absent("Where the summariser looks is not shown: a file of the run is damaged.")
    if isinstance(kept, Absent) or isinstance(weights, Absent):
        return unknown
    try:
        config = json.loads((run / "encoder" / "config.json").read_text(encoding="utf-8"))
        heads = int(config["model"]["summariser_heads"])
        own = [np.asarray(weights[PREFIX + name], np.float64) for name in NEEDED]
        tokens, volume = kept["tokens"].astype(np.float64), kept["volume"].astype(np.float32)
        shares = attention(tokens, *own, heads=heads)
        edge = round(tokens.shape[1] ** (1 / 3))
        grid = shares[:, 1:].reshape(len(tokens), edge, edge, edge)
        if volume.ndim != 4 or volume.shape[1] % edge or not np.isfinite(shares).all():
            return unknown
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return unknown
    left = grid / grid.sum(axis=(1, 2, 3), keepdims=True)
    entropy = -(left * np.log(np.maximum(left, 1e-300))).sum(axis=(1, 2, 3))
    return Looks(volume, left * tokens.shape[1], np.exp(entropy), shares[:, 0])


def attention(
    tokens: np.ndarray,
    token: np.ndarray,
    gain: np.ndarray,
    shift: np.ndarray,
    qkv: np.ndarray,
    *,
    heads: int,
) -> np.ndarray:
    """Attention of the learned token, averaged over heads (``model/summariser.py``).

    Args:
        tokens: [n, T, W] the encoder's.
        token: [1, 1, W] the learned one.
        gain, shift: [W] of the LayerNorm.
        qkv: [3W, W].
        heads: how many.

    Returns:
        [n, 1 + T], each row sums to 1; the first column is the learned token itself.
    """
    count, _, width = tokens.shape
    joined = np.concatenate([np.broadcast_to(token, (count, 1, width)), tokens], axis=1)
    centred = joined - joined.mean(-1, keepdims=True)
    normed = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + EPSILON) * gain + shift
    query = (normed[:, :1] @ qkv[:width].T).reshape(count, 1, heads, -1)
    key = (normed @ qkv[width : 2 * width].T).reshape(count, normed.shape[1], heads, -1)
    scores = (query * key).sum(-1) / np.sqrt(width // heads)  # [n, 1 + T, heads]
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: np.ndarray = (raised / raised.sum(axis=1, keepdims=True)).mean(-1)
    return found


def draw_looks(path: Path, looks: Looks, scan: int) -> tuple[int, int]:
    """One scan: anatomy above, attention below; width and height in pixels."""
    volume = looks.volume[scan]
    low, high = window(volume)
    heat = looks.shares[scan]
    size = volume.shape[0] // heat.shape[0]
    top = float(max(heat.max(), 1.0))  # of this scan: in a shared scale most would be black
    for axis in range(3):
        heat = np.repeat(heat, size, axis)

    def draw(figure: Figure) -> None:
        grid = Mosaic(figure, 2, 3, right=0.90)
        for column, plane in enumerate(PLANES):
            anatomy = cut(volume, plane)
            grid.show(0, column, anatomy, cmap="gray", vmin=low, vmax=high)
            shown = grid.show(1, column, cut(heat, plane), cmap="inferno", vmin=0.0, vmax=top)
            grid.title(column, plane.capitalize(), 8.5)
            grid.mark(0, column, anatomy, plane)
        bar = figure.add_axes((0.91, 0.08, 0.014, 0.32))
        figure.colorbar(shown, cax=bar)
        bar.tick_params(labelsize=6, length=2, width=0.5, pad=1.5)
        bar.spines[:].set_visible(False)
        bar.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(float(v), 2, trim=True)))

    return picture(path, draw, size=(5.1, 3.4))
