"""What a page is made of: sections that hold figures, tables and sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from volta3d.report.references import Paragraph
from volta3d.report.tables import Table


@dataclass(frozen=True)
class Exhibit:
    """A figure: an inline chart, or a picture file beside the page.

    Attributes:
        title: what it shows.
        note: how to read it.
        svg: the chart.
        image: the picture's path relative to the page.
        width, height: of the picture in pixels.
        alt: the picture in words.
        wide: takes a row of its own, and scrolls where that is narrow.
    """

    title: str
    note: str = ""
    svg: Markup | None = None
    image: str = ""
    width: int = 0
    height: int = 0
    alt: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Viewer:
    """A frame in which one of several pages can be looked at; it loads when it is unfolded.

    Attributes:
        id: of the frame, unique in the page.
        title: what can be done there.
        pages: (name, address relative to the page), the first is shown first.
    """

    id: str
    title: str
    pages: list[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """One heading of the page; ``sentences`` say plainly what could not be shown.

    A ``folded`` one shows its heading alone until the reader opens it.
    """

    id: str
    title: str
    lead: str = ""
    sentences: list[str] = field(default_factory=list)
    charts: list[Exhibit] = field(default_factory=list)
    pictures: list[Exhibit] = field(default_factory=list)
    viewer: Viewer | None = None
    tables: list[Table] = field(default_factory=list)
    paragraphs: list[Paragraph] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    folded: bool = False


@dataclass(frozen=True)
class Group:
    """The sections of one run, or those that all runs share (``title`` empty)."""

    id: str
    title: str
    sections: list[Section]
