"""One left-right convention: letters and pixels of every kind of picture agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image, ImageDraw, ImageFont

from volta3d.cohort.contract import Contract
from volta3d.downstream.segmentation.structures import Structure
from volta3d.errors import UsageError
from volta3d.evaluate.segmentation.outlines import Drawn, slices_figure
from volta3d.planes import CONVENTIONS, PLANES, SETTING, convention, cut, edges, sentence
from volta3d.prepare.qc import LETTER, drawn_under, mosaic, write_png
from volta3d.report import figures_attention, figures_tokens, figures_volumes

EDGE = 32
TOWARDS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def marked(letter: str) -> np.ndarray:
    """A dim head with a bright block at its right, front, top, ... [EDGE, EDGE, EDGE], RAS+."""
    axis, sign = TOWARDS[letter]
    volume = np.zeros((EDGE,) * 3, np.float32)
    volume[4:-4, 4:-4, 4:-4] = 0.3
    place = [slice(EDGE // 2 - 5, EDGE // 2 + 5)] * 3
    place[axis] = slice(EDGE - 10, EDGE - 4) if sign > 0 else slice(4, 10)
    volume[tuple(place)] = 1.0
    return volume


@pytest.fixture(params=CONVENTIONS)
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(SETTING, request.param)
    return str(request.param)


def bright_side(picture: np.ndarray) -> tuple[str, float]:
    """Which edge of a picture [rows, columns] the brightest pixels lie at, and how far out."""
    y, x = np.argwhere(picture > 0.8 * picture.max()).mean(0) / (np.array(picture.shape) - 1) - 0.5
    if abs(x) > abs(y):
        return ("right" if x > 0 else "left"), abs(x)
    return ("bottom" if y > 0 else "top"), abs(y)


def test_radiological_unless_set_and_nothing_else_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    assert convention() == "radiological" and edges("axial").left == "R"
    monkeypatch.setenv(SETTING, "Neurological")
    assert convention() == "neurological" and edges("axial").left == "L"
    monkeypatch.setenv(SETTING, "mirrored")
    with pytest.raises(UsageError, match="no such left-right convention"):
        convention()


def test_a_page_says_which_side_is_which(chosen: str) -> None:
    side = "left" if chosen == "radiological" else "right"
    assert f"(R) is on the {side} of the picture" in sentence() and SETTING in sentence()


@pytest.mark.parametrize("letter", TOWARDS)
def test_a_cut_shows_the_marker_where_its_letter_stands(chosen: str, letter: str) -> None:
    for plane in PLANES:
        if TOWARDS[letter][0] == PLANES.index(plane):
            continue  # this cut goes through the middle and misses it
        side, _ = bright_side(cut(marked(letter), plane))
        assert getattr(edges(plane), side) == letter


@pytest.mark.parametrize("letter", TOWARDS)
def test_quality_control_pictures(chosen: str, letter: str, tmp_path: Path) -> None:
    write_png(tmp_path / "qc.png", mosaic(marked(letter), None, Contract(size=EDGE)))
    assert drawn_under(tmp_path / "qc.png") == chosen
    picture = (255 * imread(tmp_path / "qc.png")[..., :3]).round().astype(np.uint8)
    edge = len(picture)
    font = ImageFont.load_default(size=max(edge // 12, 10))
    for place, plane in enumerate(PLANES):
        panel = picture[:, place * edge : (place + 1) * edge]
        written = (panel == LETTER).all(-1)
        blank = Image.new("RGB", (edge, edge))
        pen = ImageDraw.Draw(blank)
        shown = edges(plane)
        pen.text((4, edge / 2), shown.left, fill=LETTER, font=font, anchor="lm")
        pen.text((edge - 4, edge / 2), shown.right, fill=LETTER, font=font, anchor="rm")
        pen.text((edge / 2, 4), shown.top, fill=LETTER, font=font, anchor="mt")
        pen.text((edge / 2, edge - 4), shown.bottom, fill=LETTER, font=font, anchor="mb")
        assert np.array_equal(written, (np.asarray(blank) == LETTER).all(-1)) and written.any()
        if TOWARDS[letter][0] != place:
            grey = np.where(panel[..., 0] == panel[..., 2], panel[..., 0], 0)
            assert getattr(shown, bright_side(grey)[0]) == letter


def letters_and_pictures(figure: Figure) -> list[tuple[dict[str, str], np.ndarray]]:
    """Of each picture in a figure: edge to the letter that is drawn there, and what is shown."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [t for axes in figure.axes for t in axes.texts if t.get_text() in TOWARDS]
    found = []
    for axes in figure.axes:
        for image in axes.images:
            box = image.get_window_extent()
            inside = {}
            for text in texts:
                around = text.get_window_extent()
                x = ((around.x0 + around.x1) / 2 - box.x0) / box.width - 0.5
                y = ((around.y0 + around.y1) / 2 - box.y0) / box.height - 0.5
                if max(abs(x), abs(y)) < 0.5:
                    side = ("right" if x > 0 else "left") if abs(x) > abs(y) else None
                    inside[side or ("top" if y > 0 else "bottom")] = text.get_text()
            data = np.asarray(image.get_array(), float)
            if inside:
                grey = data.mean(-1) if data.ndim == 3 else data
                found.append((inside, grey if image.origin == "upper" else grey[::-1]))
    return found


def report_figures(name: str, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """A picture of the report as matplotlib drew it."""
    kept: list[Figure] = []

    def keep(path: Path, draw: Callable[[Figure], None], *, size: Any) -> tuple[int, int]:
        kept.append(Figure(figsize=size))
        draw(kept[0])
        return 1, 1

    several = volume[None]
    mask = np.ones(several.shape, bool)
    record = figures_volumes.Reconstruction(1, several, several, several, mask)
    module = {"tokens": figures_tokens, "attention": figures_attention}.get(name, figures_volumes)
    monkeypatch.setattr(module, "picture", keep)
    if name == "reconstruction":
        figures_volumes.draw_reconstruction(Path(), record, 0, sides=True)
    elif name == "film":
        figures_volumes.draw_film(Path(), [record, record], 0, sides=True)
    elif name == "tokens":
        colours = np.ones((1, 4, 4, 4, 3))
        tokens = figures_tokens.PatchTokens(several, colours, mask[:, :4, :4, :4], np.ones(3))
        figures_tokens.draw_tokens(Path(), tokens, 0)
    elif name == "attention":
        looks = figures_attention.Looks(several, np.ones((1, 4, 4, 4)), np.ones(1), np.zeros(1))
        figures_attention.draw_looks(Path(), looks, 0)
    else:
        classes = (volume > 0.8).astype(np.uint8)
        structures = [Structure("block", (1,))]
        case = Drawn("one", volume, classes, {"arm": classes}, {"arm": 1.0}, 1.0, structures)
        return slices_figure({"best": case})
    return kept[0]


@pytest.mark.parametrize("name", ["reconstruction", "film", "tokens", "attention", "outlines"])
@pytest.mark.parametrize("letter", TOWARDS)
def test_pictures_of_the_report(
    chosen: str, letter: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = marked(letter)
    shown = letters_and_pictures(report_figures(name, volume, monkeypatch))
    planes = {"film": 2}.get(name, 3)
    assert len(shown) == planes
    agreed = 0
    for letters, picture in shown:
        assert sorted(letters.values()) in (list("AIPS"), list("ILRS"), list("ALPR"))
        side, off = bright_side(picture)
        if letter in letters.values() and off > 0.15:
            assert letters[side] == letter
            agreed += 1
    assert agreed >= planes - 1 - (letter in "AP" and name == "film")
