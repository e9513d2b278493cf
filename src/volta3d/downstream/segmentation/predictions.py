"""A folder of predicted label maps: its tables, which grow when a later call adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d import __version__
from volta3d.cohort.participants import QUARANTINE_COLUMNS, write_table
from volta3d.downstream.segmentation.labelmap_files import NAMES, describe, described, read_rows
from volta3d.downstream.segmentation.model import SegmentModel
from volta3d.errors import UsageError
from volta3d.files import write_json
from volta3d.prepare.scan import plain
from volta3d.prepare.tables import label_names

ABOUT, REFUSED = "predictions.json", "refused.tsv"


@dataclass(frozen=True)
class Predictions:
    """Where a call of ``predict`` leaves its label maps.

    Args:
        path: the folder.
        fitted: the model.
        rows: of the label maps that earlier calls left there.
        refused: what earlier calls refused.
    """

    path: Path
    fitted: SegmentModel
    rows: Sequence[dict[str, Any]]
    refused: Sequence[dict[str, str]]

    @classmethod
    def open(cls, path: Path, fitted: SegmentModel) -> Predictions:
        """A folder that is empty, or that holds label maps of the same structures.

        Raises:
            UsageError: label maps of other structures: one dseg.tsv names all of a folder.
            VoltaError: its tables cannot be read.
        """
        table = path / NAMES
        names = label_names(table) if table.is_file() else {}
        own = {s.values[0]: plain(s.name) for s in fitted.structures}
        if names and names != own:
            raise UsageError(
                f"The folder holds label maps of {', '.join(names.values())}, this model outlines "
                f"{', '.join(own.values())}",
                where=path,
                fix="Choose another --out",
            )
        return cls(path, fitted, described(path), read_rows(path / REFUSED, QUARANTINE_COLUMNS))

    def publish(
        self,
        rows: Sequence[dict[str, Any]],
        refused: Sequence[dict[str, str]],
        made: dict[str, Any],
        *,
        synthetic: bool,
    ) -> None:
        """Write the tables of all label maps of the folder, and what was done in this call.

        Args:
            rows: of this call's label maps; one that an earlier call made too has the later row.
            refused: of this call; what it could outline isn't refused any more.
            made: how.
            synthetic: whether scans are.
        """
        maps = {row["file"]: row for row in (*self.rows, *rows)}
        outlined = {row["source"] for row in rows}
        before = [row for row in self.refused if row["source"] not in outlined]
        left = {(row["source"], row["code"]): row for row in (*before, *refused)}
        structures, config = self.fitted.structures, self.fitted.config
        describe(self.path, structures, maps.values(), name="volta3d segmentation", settings=made)
        table = pd.DataFrame(list(left.values()), columns=list(QUARANTINE_COLUMNS))
        write_table(self.path / REFUSED, table)
        write_json(
            self.path / ABOUT,
            {
                "software": f"volta3d {__version__}",
                "kind": "segmentation",
                **made,
                "model_sha256": config["weights_sha256"],
                "networks": config.get("ensemble", 1),
                "contract_hash": config["contract_hash"],
                "synthetic": synthetic,
                "told": len(rows),
                "refused": len(refused),
            },
        )
