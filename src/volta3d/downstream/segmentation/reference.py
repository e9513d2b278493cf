"""The reference label maps of a run, in each scan's own space, and the grids they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.cohort.paths import label_parts
from volta3d.downstream.segmentation.labelled import LabelledScans
from volta3d.downstream.segmentation.labelmap_files import (
    bids_names,
    describe,
    volumes_of,
    write_labelmap,
)
from volta3d.downstream.segmentation.native import Grid
from volta3d.downstream.segmentation.native_labels import read_native
from volta3d.downstream.segmentation.structures import classes_of
from volta3d.errors import CohortError
from volta3d.prepare.labels import hash_label_files
from volta3d.prepare.scan import label_files_of

FOLDER = "reference"
FRESH = "the same sources and a new --out"


class References:
    """Native grids and truth of the labelled scans.

    A scan's own space is the grid of its label map's file (or of the first of its files), which
    preparation found to be that of the scan. A cohort that was made from arrays has no files: there
    the prepared grid stands in.

    Args:
        scans: all labelled scans.
        run: the run folder.
    """

    def __init__(self, scans: LabelledScans, run: Path) -> None:
        self.scans, self.folder = scans, run / FOLDER
        table = scans.cohort.participants
        self.names = bids_names(
            [
                (str(table["participant_id"].iloc[r]), str(table["session"].iloc[r]))
                for r in scans.rows
            ]
        )

    def check(self) -> None:
        """Refuse to start when a label map's file is gone, or isn't the one that was prepared.

        Raises:
            CohortError: with the way out.
        """
        sources = [self.scans.label_source(i) for i in range(len(self.scans))]
        self._refuse_current_folder()
        gone = [f for label in sources for f in label_files_of(label) if not f.is_file()]
        if gone:
            raise CohortError(
                f"{len(gone)} label files are not where they were when the cohort was prepared",
                where=gone[0],
                fix="Put them back, or prepare the cohort again: outlines are scored against them "
                "in the scans' own space",
            )
        changed = [
            label_files_of(label)[0]
            for index, label in enumerate(sources)
            if label and self.scans.label_sha256(index) not in ("", hash_label_files(label))
        ]
        if changed:
            raise CohortError(
                f"{len(changed)} label maps are not those that the cohort was prepared from: "
                "they were edited, or belong to another data set",
                where=changed[0],
                fix=f"Put the first ones back, or run volta3d prepare again with {FRESH} to train "
                "and score with these",
            )

    def _refuse_current_folder(self) -> None:
        """Older versions wrote paths relative to the folder that prepare ran in, and no hashes.

        Raises:
            CohortError: this cohort has such paths.
        """
        table = self.scans.cohort.participants
        for index, row in enumerate(self.scans.rows):
            cell = str(table["label_file"].iloc[row])
            names = [path for _, path in label_parts(cell)] or [Path(cell)]
            older = table["source"].iloc[row] and not self.scans.label_sha256(index)
            if older and not all(path.is_absolute() for path in names):
                raise CohortError(
                    "The cohort names its label maps relative to the folder that volta3d prepare "
                    "ran in, which is not known any more",
                    where=cell,
                    fix=f"Run volta3d prepare again with {FRESH}: this version writes down where "
                    "the files are, and their hashes",
                )

    def grid(self, index: int) -> Grid:
        """The scan's own voxels."""
        return self._read(index)[1]

    def row(self, index: int) -> dict[str, Any]:
        """What the table ``scans.tsv`` says of a scan."""
        table = self.scans.cohort.participants
        row = self.scans.rows[index]
        return {
            "scan_id": self.scans.scan_ids[index],
            "participant_id": str(table["participant_id"].iloc[row]),
            "session": str(table["session"].iloc[row]),
            "file": self.names[index],
        }

    def write(self, indices: Sequence[int]) -> None:
        """Publish the reference of these scans as a BIDS derivative; those there already stay.

        Its table says whose each scan is by the rule that folds go by, for intervals and tests.
        """
        rows = []
        for index in indices:
            path = self.folder / self.names[index]
            classes, grid = self._read(index)
            if not path.is_file():
                write_labelmap(path, classes, grid, self.scans.structures)
            volumes = volumes_of(classes, grid, self.scans.structures)
            row = {**self.row(index), "subject": self.scans.subjects[index]}
            rows.append({**row, "volumes": volumes})
        describe(self.folder, self.scans.structures, rows, name="Reference label maps")

    def _read(self, index: int) -> tuple[np.ndarray, Grid]:
        source = self.scans.label_source(index)
        if source is None:
            label = self.scans.label(index).cpu().numpy()
            edge = label.shape[0]
            return label, Grid((edge, edge, edge), self.scans.cohort.affine(self.scans.rows[index]))
        values, grid = read_native(source)
        return classes_of(values, self.scans.structures), grid
