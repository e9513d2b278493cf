"""What ``predict`` leaves in a folder, whatever the task, and what a second call makes of it.

One rule for class scores, numbers and label maps: a folder with earlier results of the same model
keeps them. Its tables hold the scans of all calls, of a scan given twice the later result. Results
of another model are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.artefacts import PREDICTED_ABOUT, REFUSED
from volta3d.cohort.participants import QUARANTINE_COLUMNS, write_table
from volta3d.errors import UsageError, VoltaError
from volta3d.files import read_json, write_json

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PredictResult:
    """What ``predict`` made.

    Attributes:
        table: predictions.tsv, or volumes.tsv.
        predicted: scans with a prediction.
        refused: scans without: ``source``, ``code``, ``what``, ``how_to_fix``.
        refusals: the table of these.
    """

    table: Path
    predicted: int
    refused: tuple[dict[str, str], ...]
    refusals: Path


@dataclass(frozen=True)
class PredictedFolder:
    """A folder of ``predict``, and what earlier calls left in it.

    Args:
        path: the folder.
        about: predictions.json; empty where there is none.
        refused: the rows of refused.tsv.
    """

    path: Path
    about: Mapping[str, Any]
    refused: Sequence[dict[str, str]]

    @classmethod
    def open(cls, path: Path, model_sha256: str) -> PredictedFolder:
        """A folder that is empty, or holds results of the same model.

        Raises:
            UsageError: results of another model.
            VoltaError: its tables cannot be read.
        """
        about = read_json(path / PREDICTED_ABOUT) if (path / PREDICTED_ABOUT).is_file() else {}
        if not isinstance(about, dict):
            raise unreadable(path / PREDICTED_ABOUT, "not a mapping")
        if about.get("model_sha256", model_sha256) != model_sha256:
            raise UsageError(
                "The folder holds results of another model", where=path, fix="Choose another --out"
            )
        return cls(path, about, read_rows(path / REFUSED, QUARANTINE_COLUMNS))

    def publish(
        self, about: Mapping[str, Any], refused: Sequence[dict[str, str]], done: Collection[str]
    ) -> None:
        """Write refused.tsv and predictions.json.

        Args:
            about: the content of predictions.json.
            refused: of this call.
            done: sources with a result in this call: they are refused no longer.
        """
        before = [row for row in self.refused if row["source"] not in done]
        left = {(row["source"], row["code"]): row for row in (*before, *refused)}
        table = pd.DataFrame(list(left.values()), columns=list(QUARANTINE_COLUMNS))
        write_table(self.path / REFUSED, table)
        write_json(self.path / PREDICTED_ABOUT, dict(about))


def read_rows(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """The rows of a table that has these columns; none of any other table, or where there is none.

    Raises:
        VoltaError: it cannot be read.
    """
    if not path.is_file():
        return []
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not set(columns) <= set(table.columns):
        return []
    return [{str(k): str(v) for k, v in row.items()} for row in table.to_dict("records")]


def unreadable(path: Path, reason: object) -> VoltaError:
    """The error when what earlier calls left can't be read."""
    return VoltaError(
        f"A table of earlier results cannot be read: {reason}",
        where=path,
        fix="Remove it, or choose another --out",
    )
