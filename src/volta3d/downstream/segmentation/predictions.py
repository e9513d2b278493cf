"""A folder of predicted label maps: its tables, which grow when a later call adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d import __version__
from volta3d.downstream.segmentation.labelmap_files import NAMES, describe, described
from volta3d.downstream.segmentation.model import SegmentModel
from volta3d.errors import UsageError
from volta3d.grid.predicted import PredictedFolder
from volta3d.prepare.scan import plain
from volta3d.prepare.tables import label_names


@dataclass(frozen=True)
class PredictedMaps:
    """Where a call of ``predict`` leaves its label maps.

    Args:
        folder: with what earlier calls refused.
        fitted: the model.
        rows: of the label maps that earlier calls left there.
    """

    folder: PredictedFolder
    fitted: SegmentModel
    rows: Sequence[dict[str, Any]]

    @classmethod
    def open(cls, path: Path, fitted: SegmentModel) -> PredictedMaps:
        """A folder that is empty, or that holds label maps of the same model.

        Raises:
            UsageError: results of another model, or label maps of other structures: one dseg.tsv
                names all of a folder.
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
        folder = PredictedFolder.open(path, str(fitted.config["weights_sha256"]))
        return cls(folder, fitted, described(path))

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
        structures, config = self.fitted.structures, self.fitted.config
        name = "volta3d segmentation"
        describe(self.folder.path, structures, maps.values(), name=name, settings=made)
        about = {
            "software": f"volta3d {__version__}",
            "kind": "segmentation",
            **made,
            "model_sha256": config["weights_sha256"],
            "networks": config.get("ensemble", 1),
            "contract_hash": config["contract_hash"],
            "synthetic": synthetic or bool(self.folder.about.get("synthetic")),
            "told": len(maps),
            "refused": len(refused),
        }
        self.folder.publish(about, refused, {row["source"] for row in rows})
