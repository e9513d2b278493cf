"""Where a BIDS data set begins, when a part of one is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from volta3d.prepare.layouts.bids_names import DESCRIPTION
from volta3d.prepare.walk import entries, folders

ABOVE = ("rawdata", "raw", "bids")  # folders of raw data whose derivatives may lie beside them


@dataclass(frozen=True)
class BidsRoot:
    """A data set, or a part of it.

    Args:
        folder: where its subjects are.
        only: a subject, session or anat folder when nothing else of it is wanted.
    """

    folder: Path
    only: Path | None = None

    @property
    def part(self) -> Path:
        """What is wanted of it."""
        return self.only or self.folder

    @property
    def labels(self) -> tuple[Path, ...]:
        """Where its derivatives may lie."""
        inside = self.folder / "derivatives"
        if self.folder.name.lower() in ABOVE:
            return inside, self.folder.parent / "derivatives"
        return (inside,)


def bids_root(given: Path) -> BidsRoot | None:
    """The data set of a subject, session or anat folder; None for any other folder."""
    path = given if given.name not in ("", ".", "..") else given.resolve()
    parts = [path, *path.absolute().parents]
    for steps, folder in enumerate(parts[:3]):
        if folder.name.startswith("sub-"):
            below = [p.name for p in reversed(parts[:steps])]
            fits = not below or below[-1] == "anat" or below[-1].startswith("ses-")
            return BidsRoot(folder.parent, path) if fits and _has_images(folder) else None
    return None


def _has_images(subject: Path) -> bool:
    places = [subject, *(p for p in folders(subject) if p.name.startswith("ses-"))]
    return any((place / "anat").is_dir() and entries(place / "anat") for place in places)


def is_described(folder: Path) -> bool:
    """Whether a folder says that it is a BIDS data set."""
    return (folder / DESCRIPTION).is_file()
