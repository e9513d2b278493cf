"""How every figure looks: one palette, one font size, charts that follow light and dark.

Charts become inline SVG whose colours are CSS variables of the page, so they follow the reader's
colour scheme and print in ink on white. Pictures of brains become PNG on black.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-ins that matplotlib draws with; svg() turns each into a variable of templates/style.css.
INK, MUTED, GRID, ALARM, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05", "#0a0a06", "#0a0a07", "#0a0a08")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    ALARM: "--alarm",
    PAPER: "--paper",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)},
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
CHART = (4.4, 2.5)  # inches; shown about as wide as a phone
PICTURE_DPI = 300  # about three times what a screen shows at the size on the page
UNKNOWN = "\N{EN DASH}"  # in place of a number
MINUS = "\N{MINUS SIGN}"
NIGHT, DAY = "#000000", "#e8e8e8"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # names of sites and columns may hold a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "figure.dpi": 100,
}


@contextmanager
def drawing(**more: Any) -> Iterator[None]:
    """The style, for as long as the block runs."""
    settings: Any = {**RC, **more}  # matplotlib types every key as a literal
    with matplotlib.rc_context(settings):
        yield


def chart(draw: Callable[[Axes], None], *, alt: str, size: tuple[float, float] = CHART) -> Markup:
    """One chart as inline SVG.

    Args:
        draw: puts its marks on the axes it is given.
        alt: what the chart shows, for those who cannot see it.
        size: width and height in inches.
    """

    def single(figure: Figure) -> None:
        draw(figure.add_subplot())

    return panels(single, alt=alt, size=size)


def panels(draw: Callable[[Figure], None], *, alt: str, size: tuple[float, float]) -> Markup:
    """Several charts in one as inline SVG; ``draw`` makes its own axes on the figure."""
    salt = hashlib.sha256(f"{alt}{size}".encode()).hexdigest()[:12]
    with drawing(**{"svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    return inline(buffer.getvalue(), alt=alt)


def inline(svg: str, *, alt: str) -> Markup:
    """Matplotlib's SVG file as an element of the page.

    Its global style sheet, identifiers nobody refers to and fixed sizes are dropped; stand-in
    colours become CSS variables. Text stays text and is escaped by matplotlib.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<style type=\"text/css\">.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None  # matplotlib always writes one
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', rest))
    rest = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", rest)
    for colour, name in VARIABLES.items():
        rest = rest.replace(colour, f"var({name})")
    rest = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--sans)", rest)
    opening = f'<svg class="chart" viewBox="{box[1]}" role="img" aria-label="{escape(alt)}">'
    return Markup(re.sub(r"\n\s*", "\n", opening + rest))  # noqa: S704 - text escaped above


def picture(
    path: Path, draw: Callable[[Figure], None], *, size: tuple[float, float]
) -> tuple[int, int]:
    """Write a PNG on black; return its width and height in pixels.

    Args:
        path: the file.
        draw: makes its own axes on the figure.
        size: width and height in inches; text is set for a page column of about that width.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    light = {"text.color": DAY, "axes.grid": False, "xtick.color": DAY, "ytick.color": DAY}
    with drawing(**light):
        figure = Figure(figsize=size, dpi=PICTURE_DPI, facecolor=NIGHT)
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        canvas.print_png(path, metadata={"Software": None})
        width, height = canvas.get_width_height(physical=True)
    return width, height


def number(value: object, digits: int = 3, *, trim: bool = False) -> str:
    """A number for reading: significant digits, thousands apart; a dash when there is none.

    Args:
        value: anything; what is not a number becomes a dash.
        digits: significant digits.
        trim: without trailing zeros, for limits and axes.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        text = "-∞" if value < 0 else "∞"
    elif isinstance(value, int) or value == 0 or (value.is_integer() and abs(value) >= 100):
        text = f"{int(value):,}"
    elif 1e-3 <= abs(value) < 1e6:
        before = (
            len(str(int(abs(value)))) if abs(value) >= 1 else 1 + math.floor(math.log10(abs(value)))
        )
        text = f"{value:,.{max(digits - before, 0)}f}"
    else:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    if trim and "." in text:
        head, mark, power = text.partition("e")
        text = head.rstrip("0").rstrip(".") + mark + power
    return text.replace("-", MINUS).replace(",", "\u2009")
