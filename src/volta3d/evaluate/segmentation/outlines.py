"""Figure 3: the same slices with the truth and each arm's outline, and the surfaces in 3D.

Best, median and worst case by the mean Dice of all arms, of repeated arms their first repetition.
Everything is drawn on the prepared grid, whose axes point right, front and up; label maps are
brought onto it (nearest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from volta3d.cohort.store import Cohort
from volta3d.downstream.segmentation.native import Grid
from volta3d.downstream.segmentation.structures import Structure, classes_of
from volta3d.errors import VoltaError
from volta3d.evaluate.segmentation.arms import Key, arms_of_run
from volta3d.evaluate.segmentation.case_matching import partners
from volta3d.evaluate.segmentation.label_mapping import Structures, map_labels
from volta3d.evaluate.segmentation.labelmaps import on_grid, read_classes
from volta3d.evaluate.segmentation.labelsets import LabelSet
from volta3d.evaluate.segmentation.score import REFERENCE, read_config
from volta3d.evaluate.segmentation.summary import CASES, ranked_cases, read_cases
from volta3d.evaluate.segmentation.surface_render import picture
from volta3d.files import atomic_file
from volta3d.planes import PLANES, Plane, cut, edges
from volta3d.prepare.tables import read_table

TRUTH = "#f5f5f5"
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#f0e442")
MARGIN_MM = 12.0  # around the structures
DPI = 150


@dataclass(frozen=True)
class Drawn:
    """One case, cut to the surroundings of its structures, axes to the right, front and up.

    Args:
        name: of the case.
        grey: float32 [X, Y, Z].
        truth: classes, uint8 [X, Y, Z].
        arms: arm to its classes.
        dice: arm to its mean Dice over structures, as scored in native space.
        spacing: edge of a voxel in mm.
        structures: of the classes 1, 2, ...
    """

    name: str
    grey: np.ndarray
    truth: np.ndarray
    arms: Mapping[str, np.ndarray]
    dice: Mapping[str, float]
    spacing: float
    structures: Sequence[Structure]


def draw_outlines(run: Path | str, cohort: Path | str) -> list[Path]:
    """Write ``figures/outlines.png`` and ``figures/surfaces.png`` into a scored run.

    Args:
        run: a run of ``segment``, evaluated.
        cohort: the one it was trained on.

    Raises:
        VoltaError: the run isn't evaluated, or the cohort doesn't hold its cases.
    """
    run = Path(run)
    drawn, synthetic = drawn_cases(run, cohort)
    paths = [run / "figures" / "outlines.png", run / "figures" / "surfaces.png"]
    _save(slices_figure(drawn, synthetic), paths[0])
    _save(surfaces_figure(drawn, synthetic), paths[1])
    return paths


def drawn_cases(
    run: Path | str, cohort: Path | str, *, whole: bool = False
) -> tuple[dict[str, Drawn], bool]:
    """The best, median and worst case by their title, and whether they are synthetic.

    Args:
        run: a run of ``segment``, evaluated.
        cohort: the one it was trained on.
        whole: all of each scan instead of the surroundings of its structures.

    Raises:
        VoltaError: the run isn't evaluated, or the cohort doesn't hold its cases.
    """
    run, opened = Path(run), Cohort.open(Path(cohort))
    if not (run / CASES).is_file():
        raise VoltaError("The run is not scored yet", where=run, fix="volta3d evaluate RUN first")
    labelled = _Labelled.open(run)
    cases = read_cases(run / CASES)
    cases = cases[cases["seed"] == 0]
    arms = [a for a in dict.fromkeys(cases["arm"]) if (a, 0) in labelled.arms]
    ranked = ranked_cases(cases, arms)
    if not ranked:
        raise VoltaError(
            "No case was outlined by every arm", where=run, fix="Finish the run with --resume"
        )
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    drawn = {t: _case(labelled, opened, case, arms, cases, whole) for t, case in chosen.items()}
    return drawn, opened.contract.synthetic


def slices_figure(drawn: Mapping[str, Drawn], synthetic: bool = False) -> Figure:
    """A row for each case, its three planes through most of the truth, all outlines on each."""
    figure = Figure(figsize=(8.4, 2.9 * len(drawn) + 0.5), facecolor="black", layout="constrained")
    axes = figure.subplots(len(drawn), 3, squeeze=False)
    arms = list(next(iter(drawn.values())).arms)
    for row, (title, case) in zip(axes, drawn.items(), strict=True):
        for plane, axis in zip(PLANES, row, strict=True):
            at = _fullest(case.truth, PLANES.index(plane))
            axis.imshow(cut(case.grey, plane, at), cmap="gray", vmin=0, vmax=1)
            _contour(axis, cut(case.truth, plane, at), TRUTH, 2.2)
            for arm, colour in zip(arms, _colours(arms), strict=True):
                _contour(axis, cut(case.arms[arm], plane, at), colour, 1.1)
            axis.set_axis_off()
            _letters(axis, plane)
            if title == next(iter(drawn)):
                axis.set_title(plane, color="white", fontsize=9)
        dice = ", ".join(f"{arm} {case.dice[arm]:.3f}" for arm in arms)
        row[0].text(
            0.02, 0.98, f"{title}: {case.name}\nDice {dice}", color="white", fontsize=7,
            va="top", transform=row[0].transAxes,
            bbox={"facecolor": "black", "alpha": 0.65, "linewidth": 0, "pad": 1.5},
        )  # fmt: skip
    handles = [Line2D([], [], color=TRUTH, lw=2.2, label="reference")]
    for arm, colour in zip(arms, _colours(arms), strict=True):
        handles.append(Line2D([], [], color=colour, lw=1.4, label=arm))
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
        labelcolor="white", fontsize=9,
    )  # fmt: skip
    legend.set_title("SYNTHETIC scans" if synthetic else "")
    legend.get_title().set_color("white")
    return figure


def surfaces_figure(drawn: Mapping[str, Drawn], synthetic: bool = False) -> Figure:
    """A row for each case and structure: the truth's surface, then each arm's by its distance.

    Each structure is seen by itself from the outer side of its half of the head.
    """
    arms = list(next(iter(drawn.values())).arms)
    views = [
        (title, case, number)
        for title, case in drawn.items()
        for number in range(1, len(case.structures) + 1)
    ]
    columns = 1 + len(arms)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.4 * len(views) + 0.4), layout="constrained")
    axes = figure.subplots(len(views), columns, squeeze=False)
    for row, (title, case, number) in zip(axes, views, strict=True):
        structure, truth = case.structures[number - 1], case.truth == number
        masks = [("reference", truth), *((arm, case.arms[arm] == number) for arm in arms)]
        for axis, (name, mask) in zip(row, masks, strict=True):
            seen = picture(mask, truth, case.spacing, structure.side or "left")
            axis.imshow(seen, origin="lower")
            axis.set_axis_off()
            text = name if name == "reference" else f"{name}, mean Dice {case.dice[name]:.3f}"
            axis.set_title(text, fontsize=8)
        side = structure.side or "left"
        text = f"{title}: {case.name}\n{structure.name}, from the {side}"
        row[0].text(0, 0, text, fontsize=7, transform=row[0].transAxes)
    note = "grey: on the reference, red: 2 mm outside, blue: 2 mm inside"
    figure.supxlabel(note + (" - SYNTHETIC scans" if synthetic else ""), fontsize=8)
    return figure


@dataclass(frozen=True)
class _Labelled:
    """The label maps of a run, and what their values mean."""

    reference: LabelSet
    structures: Structures
    arms: Mapping[Key, LabelSet]
    own: Mapping[Key, Structures]

    @classmethod
    def open(cls, run: Path) -> _Labelled:
        reference = LabelSet.open(run / REFERENCE)
        folders = arms_of_run(run, read_config(run))
        first = {key: LabelSet.open(folder) for key, folder in folders.items() if key[1] == 0}
        labels = {name: (value,) for value, name in reference.names.items()}
        structures, own = map_labels(reference, first, labels)
        return cls(reference, structures, first, own)

    def scan_id(self, case: str) -> str:
        """Of the scan in its cohort; empty when the run doesn't tell."""
        folder = self.reference.folder
        rows = read_table(folder / "scans.tsv") if (folder / "scans.tsv").is_file() else []
        file = self.reference.files[case].relative_to(folder).as_posix()
        return next((r.get("scan_id", "") for r in rows if r.get("file") == file), "")

    def file(self, arm: str, case: str) -> Path:
        """An arm's label map of a case."""
        labelset = self.arms[arm, 0]
        return labelset.files[partners(self.reference.files, labelset.files)[case]]


def _case(
    labelled: _Labelled,
    cohort: Cohort,
    case: str,
    arms: Sequence[str],
    cases: pd.DataFrame,
    whole: bool,
) -> Drawn:
    scan_id = labelled.scan_id(case)
    if scan_id not in cohort.scan_ids:
        raise VoltaError(
            f"Case {case} is not in the cohort", where=cohort.path, fix="Name the run's own cohort"
        )
    index = cohort.scan_ids.index(scan_id)
    volume, edge = cohort.volume(index), cohort.contract.size
    prepared = Grid((edge, edge, edge), cohort.affine(index))

    def brought(path: Path, structures: Sequence[Structure]) -> np.ndarray:
        labels, own = read_classes(path)
        return classes_of(on_grid(labels, own, prepared, path)[0], structures)

    truth = brought(labelled.reference.files[case], labelled.structures)
    found = {a: brought(labelled.file(a, case), labelled.own[a, 0]) for a in arms}
    spacing = float(prepared.affine[0, 0])
    everything = (slice(None), slice(None), slice(None))
    near = not whole and truth.any()
    box = _surroundings(truth, round(MARGIN_MM / spacing)) if near else everything
    low, high = np.percentile(volume[box], [0.5, 99.5])
    grey = np.clip((volume[box] - low) / max(float(high - low), 1e-9), 0, 1)
    own = cases[(cases["case"] == case) & (cases["status"] != "absent")]
    dice = {a: float(own[own["arm"] == a]["dice"].mean()) for a in arms}
    cut = {a: m[box] for a, m in found.items()}
    return Drawn(case, grey, truth[box], cut, dice, spacing, labelled.structures)


def _surroundings(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    at = np.argwhere(mask > 0)
    first = np.maximum(at.min(0) - margin, 0)
    last = np.minimum(at.max(0) + margin + 1, mask.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return x, y, z


def _fullest(mask: np.ndarray, plane: int) -> int:
    """The slice with most labelled voxels."""
    others = tuple(a for a in range(3) if a != plane)
    return int(np.count_nonzero(mask, axis=others).argmax())


def _letters(axis, plane: Plane) -> None:  # type: ignore[no-untyped-def]
    shown = edges(plane)
    for x, y, letter in (
        (0.02, 0.5, shown.left),
        (0.98, 0.5, shown.right),
        (0.5, 0.96, shown.top),
        (0.5, 0.04, shown.bottom),
    ):
        axis.text(
            x, y, letter, color="#ffd866", fontsize=8, ha="center", va="center",
            transform=axis.transAxes,
        )  # fmt: skip


def _contour(axis, classes: np.ndarray, colour: str, width: float) -> None:  # type: ignore[no-untyped-def]
    for index in range(1, int(classes.max()) + 1):
        mask = classes == index
        if mask.any():
            axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=width)


def _colours(arms: Sequence[str]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(arms))]


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_file(path) as temporary:
        figure.savefig(str(temporary), format="png", dpi=DPI, facecolor=figure.get_facecolor())
