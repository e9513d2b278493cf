"""Figure 3 and the viewer of a segmentation: best, median and worst case, truth and every arm."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from volta3d.errors import VoltaError
from volta3d.report.blocks import Exhibit, Viewer
from volta3d.report.style import number
from volta3d.report.task_run import TaskRun
from volta3d.report.viewer import Colour, Overlay, Picture, write_viewer

if TYPE_CHECKING:
    from volta3d.evaluate.segmentation.outlines import Drawn

PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0),
)  # fmt: skip
AGREEMENT: tuple[tuple[str, Colour], ...] = (
    ("both", (0, 158, 115)), ("reference only", (86, 180, 233)), ("arm only", (213, 94, 0)),
)  # fmt: skip
FIGURES = {
    "outlines": ("Outlines", "Best, median and worst case by mean Dice of all arms."),
    "surfaces": ("Surfaces", "The reference, then each arm by its distance to it."),
}
NOTE = "On the prepared grid. Click or drag in a slice, or move the sliders."
Shown = tuple[list[Exhibit], Viewer | None, list[str]]


def outlines(run: TaskRun, prefix: str, folder: Path, cohort: Path | None) -> Shown:
    """Pictures, a viewer, and sentences on what could not be shown.

    Args:
        run: of ``segment``.
        prefix: of file names and anchors.
        folder: the report's.
        cohort: the run's cohort; without it only figures that the run already holds are shown.
    """
    if not run.metrics:
        return [], None, []
    if cohort is None:
        return _copied(run, prefix, folder)
    # here: what cuts label maps imports torch, and most reports need none
    from volta3d.evaluate.segmentation.outlines import drawn_cases, slices_figure, surfaces_figure

    try:
        near, synthetic = drawn_cases(run.path, cohort)
        whole, _ = drawn_cases(run.path, cohort, whole=True)
    except VoltaError as error:
        pictures, viewer, _ = _copied(run, prefix, folder)
        return pictures, viewer, [f"The label maps of {run.name} are not shown: {error.what}."]
    figures = {"outlines": slices_figure(near, synthetic)}
    figures["surfaces"] = surfaces_figure(near, synthetic)
    pictures = [_saved(figure, name, prefix, folder) for name, figure in figures.items()]
    names = [str(s) for s in run.metrics.get("structures", [])]
    return pictures, _viewer(whole, names, prefix, folder), []


def _copied(run: TaskRun, prefix: str, folder: Path) -> Shown:
    pictures = []
    for name in FIGURES:
        source = run.path / "figures" / f"{name}.png"
        if source.is_file():
            target = folder / "images" / f"{prefix}{name}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
            pictures.append(_exhibit(target, name, folder))
    sentence = "Name the cohort with --cohort to see truth and label maps scan by scan."
    return pictures, None, [sentence]


def _saved(figure: Figure, name: str, prefix: str, folder: Path) -> Exhibit:
    path = folder / "images" / f"{prefix}{name}.png"
    path.parent.mkdir(exist_ok=True)
    FigureCanvasAgg(figure)
    colour = figure.get_facecolor()
    from volta3d.evaluate.segmentation.outlines import DPI

    figure.savefig(str(path), dpi=DPI, facecolor=colour, metadata={"Software": None})
    return _exhibit(path, name, folder)


def _exhibit(path: Path, name: str, folder: Path) -> Exhibit:
    height, width = imread(path).shape[:2]
    title, note = FIGURES[name]
    address = path.relative_to(folder).as_posix()
    return Exhibit(title, note, image=address, width=width, height=height, alt=note, wide=True)


def _viewer(cases: Mapping[str, Drawn], names: list[str], prefix: str, folder: Path) -> Viewer:
    """A page for each case."""
    colours = {i: (n, PALETTE[(i - 1) % len(PALETTE)]) for i, n in enumerate(names, start=1)}
    pages, written = [], set[str]()
    for title, case in cases.items():
        address = f"viewer/{prefix}{title}.html"
        if case.name in written:
            continue
        written.add(case.name)
        layers = [Overlay("Reference", case.truth, colours)]
        for arm, found in case.arms.items():
            layers.append(Overlay(f"{arm}, Dice {number(case.dice[arm])}", found, colours))
            layers.append(Overlay(f"{arm} against the reference", _agreement(case.truth, found),
                                  dict(enumerate(AGREEMENT, start=1))))  # fmt: skip
        heading = f"{title[:1].upper()}{title[1:]} case, {case.name}"
        write_viewer(folder / address, heading, [Picture("Scan", case.grey)], layers, note=NOTE)
        pages.append((heading, address))
    return Viewer(f"{prefix}viewer", "Move through the scans", pages)


def _agreement(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """1 where both say the same structure, 2 the reference alone, 3 the arm, or another one."""
    agreed = np.zeros(truth.shape, np.uint8)
    agreed[(truth > 0) & (found == 0)] = 2
    agreed[(found > 0) & (found != truth)] = 3
    agreed[(truth > 0) & (found == truth)] = 1
    return agreed
