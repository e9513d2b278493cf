"""Where the scans lie in feature space: two principal components, coloured by what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from volta3d.report.evidence import UNITS, Embeddings
from volta3d.report.style import MARKERS, MUTED, SERIES, chart, number

COLUMNS = ("sex", "age", "site", "diagnosis", "dataset")
REQUIRED = ("sex", "age", "site")
MOST_GROUPS = 7  # then "other"
RASTER_ABOVE = 1000  # scans; more vector marks make the page heavy
SIZE = (4.4, 3.7)


@dataclass(frozen=True)
class Map:
    """Coordinates [scans, 2] and the shares of variance of the two components."""

    points: np.ndarray
    explained: np.ndarray


def project(features: np.ndarray) -> Map:
    """The first two principal components of features [scans, width], signs fixed."""
    centred = features - features.mean(axis=0)
    left, singular, axes = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(singular))
    signs = np.sign(axes[np.arange(count), np.abs(axes[:count]).argmax(axis=1)])
    points = np.zeros((len(features), 2))
    points[:, :count] = left[:, :count] * singular[:count] * np.where(signs == 0, 1, signs)
    power = np.square(singular)
    shares = np.pad(power, (0, 2))[:2] / max(float(power.sum()), 1e-30)
    return Map(points, shares)


def colourings(table: pd.DataFrame) -> list[str]:
    """The columns worth colouring by: those with at least two different values."""
    return [c for c in COLUMNS if c in table and _known(table[c]).nunique() > 1]


def unknown(table: pd.DataFrame, column: str) -> int:
    """Scans of which a column is not known."""
    return len(table) - len(_known(table[column]))


def unvaried(table: pd.DataFrame) -> list[str]:
    """Why sex, age or site colour nothing, a sentence each."""
    found = []
    for column in REQUIRED:
        known = sorted(set(_known(table[column]).astype(str))) if column in table else []
        if len(known) == 0:
            found.append(f"Not coloured by {column}: it is not known.")
        elif len(known) == 1:
            found.append(f"Not coloured by {column}: all scans have the same, {known[0]}.")
    return found


def _known(values: pd.Series) -> pd.Series:
    as_text = values.astype("string").str.strip()
    return values[as_text.notna() & ~as_text.isin(["", "nan", "n/a"])]


def draw_map(embeddings: Embeddings, place: Map, column: str) -> Markup:
    """The map coloured by a column; scans of which it is not known stay grey."""
    values = embeddings.table[column]
    known = np.zeros(len(values), bool)
    known[_known(values).index] = True
    numeric = pd.to_numeric(values, errors="coerce").to_numpy(float)
    continuous = bool(np.isfinite(numeric[known]).all()) and len(set(numeric[known])) > MOST_GROUPS
    words = f"{int(known.sum())} of {len(values)} scans with known {column}"

    def draw(axes: Axes) -> None:
        x, y = place.points.T
        raster = len(x) > RASTER_ABOVE
        size = 26 if len(x) < 300 else 10
        base: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": raster}
        axes.scatter(x[~known], y[~known], color=MUTED, alpha=0.6, **base)
        if continuous:
            edged = {**base, "linewidths": 0.5, "edgecolors": MUTED}  # dark ones on a dark page
            dots = axes.scatter(x[known], y[known], c=numeric[known], cmap="viridis", **edged)
            bar = axes.figure.colorbar(dots, ax=axes, pad=0.02, aspect=30)
            bar.outline.set_visible(False)
            unit = UNITS.get(column, "")
            bar.set_label(f"{column}, {unit}" if unit else column)
            bar.locator = MaxNLocator(5)
            bar.update_ticks()
        else:
            _groups(axes, x[known], y[known], values[known].astype(str).to_numpy(), base)
        axes.set_xlabel(f"component 1 ({_percent(place.explained[0])})")
        axes.set_ylabel(f"component 2 ({_percent(place.explained[1])})")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.06)

    alt = f"Scans on the first two principal components, coloured by {column}; {words}."
    return chart(draw, alt=alt, size=SIZE)


def _groups(
    axes: Axes, x: np.ndarray, y: np.ndarray, names: np.ndarray, base: dict[str, Any]
) -> None:
    counts = pd.Series(names).value_counts()
    order = sorted(counts.index[:MOST_GROUPS])
    rest = ~np.isin(names, order)
    if rest.any():
        axes.scatter(x[rest], y[rest], color=MUTED, label=f"other ({rest.sum()})", **base)
    for colour, shape, name in zip(SERIES, MARKERS, order, strict=False):
        here = names == name
        label = f"{name[:18]} ({here.sum()})"
        axes.scatter(x[here], y[here], color=colour, marker=shape, alpha=0.85, label=label, **base)
    where: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (-0.02, 1.0),
        "borderaxespad": 0.1,
    }
    axes.legend(ncols=3, handletextpad=0.1, columnspacing=0.8, **where)


def _percent(share: float) -> str:
    return f"{number(float(100 * share), 2)} % of variance"
