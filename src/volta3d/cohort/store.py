"""A cohort on disk: open, read, write. ``contract.yaml`` is written last and seals it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from volta3d.cohort.arrays import (
    AFFINES,
    LABELS,
    VOLUMES,
    create_cubes,
    decode,
    encode,
    open_array,
    read_cube,
    read_rows,
    write_affines,
)
from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import (
    QUARANTINE_COLUMNS,
    complete,
    read_participants,
    read_quarantine,
    write_table,
)
from volta3d.config import build, parse_yaml
from volta3d.errors import CohortError, ConfigError
from volta3d.files import atomic_folder, content_hash, write_text

if TYPE_CHECKING:
    from torch import Tensor

CONTRACT = "contract.yaml"
PARTICIPANTS = "participants.tsv"
QUARANTINE = "quarantine.tsv"
FORMAT = 1
RAW = (".nii", ".nii.gz", ".dcm", ".ima", ".mgz", ".zip")  # of scans nobody has prepared
LOOKED_AT = 2000  # files


class Cohort:
    """Prepared scans, read one by one or all at once.

    Attributes:
        path: its folder.
        contract: how the scans were prepared.
        participants: one row per scan in the order of the arrays, index 0 to n-1.
        quarantine: what could not be prepared, why and what to do about it.
        has_labels: whether label maps were prepared along.
    """

    def __init__(
        self, path: Path, contract: Contract, participants: pd.DataFrame, quarantine: pd.DataFrame
    ) -> None:
        self.path = path
        self.contract = contract
        self.participants = participants
        self.quarantine = quarantine
        self.has_labels = bool((participants["label_file"] != "").any())
        n, size = len(participants), contract.size
        cubes = (n, size, size, size)
        self._volumes = open_array(path / VOLUMES, cubes, contract.storage)
        self._labels = open_array(path / LABELS, cubes, "uint16") if self.has_labels else None
        affines = open_array(path / AFFINES, (n, 4, 4), "float64")
        self._affines = read_rows(affines, slice(None), path / AFFINES)

    @classmethod
    def open(cls, path: Path | str) -> Cohort:
        """Open a cohort and check that it is complete.

        Raises:
            CohortError: missing, half-written or damaged, with what to do.
        """
        path = Path(path)
        contract, stated = _read_contract(path)
        participants = read_participants(path / PARTICIPANTS)
        cohort = cls(path, contract, participants, read_quarantine(path / QUARANTINE))
        if stated != cohort.hash():
            raise CohortError(
                "The scans in participants.tsv are not those the cohort was sealed with",
                where=path,
                fix="Restore the file, or run the same volta3d prepare command again; to correct "
                "an age or a sex, correct the table of the source",
            )
        return cohort

    def __len__(self) -> int:
        return len(self.participants)

    @property
    def scan_ids(self) -> list[str]:
        """The ids in the order of the arrays."""
        return [str(s) for s in self.participants["scan_id"]]

    def volume(self, index: int) -> np.ndarray:
        """Scan ``index`` as float32 [D, H, W], axes to the right, front and top.

        Raises:
            CohortError: damaged.
        """
        return decode(self.stored(index), self.contract)

    def stored(self, index: int) -> np.ndarray:
        """Scan ``index`` as it is stored, uint16 or float16 [D, H, W].

        Raises:
            CohortError: damaged.
        """
        self._check(index)
        return read_cube(self._volumes, index, self.path / VOLUMES)

    def label(self, index: int) -> np.ndarray | None:
        """The label map of scan ``index`` as uint16 [D, H, W], None if it has none."""
        self._check(index)
        if self._labels is None or not self.participants["label_file"].iloc[index]:
            return None
        return read_cube(self._labels, index, self.path / LABELS)

    def affine(self, index: int) -> np.ndarray:
        """4x4 float64 from voxels of the prepared cube to world millimetres (RAS)."""
        self._check(index)
        return np.array(self._affines[index])

    def load(self, indices: Iterable[int] | None = None, downsample: int = 1) -> Tensor:
        """Scans as float32 [n, 1, D, H, W], average-pooled by ``downsample``.

        Raises:
            CohortError: the cube's edge is not a multiple of ``downsample``, or a damaged scan.
        """
        import torch  # here: the processes that prepare scans need no tensors
        from torch.nn.functional import avg_pool3d

        size = self.contract.size
        if downsample < 1 or size % downsample:
            divisors = [str(d) for d in range(1, size + 1) if size % d == 0]
            raise CohortError(
                f"Cubes of {size} voxels cannot be pooled by {downsample}",
                where=self.path,
                fix=f"Use one of {', '.join(divisors)}",
            )
        chosen = list(range(len(self)) if indices is None else indices)
        small = size // downsample
        volumes = torch.empty((len(chosen), 1, small, small, small), dtype=torch.float32)
        for row, index in enumerate(chosen):
            volume = torch.from_numpy(self.volume(index))[None]
            volumes[row] = avg_pool3d(volume, downsample) if downsample > 1 else volume
        return volumes

    def hash(self) -> str:
        """A hash of the contract, the scan ids and the checksums of their sources."""
        return _cohort_hash(self.contract, self.participants)

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"scan {index} of {len(self)}")


def read_contract(path: Path | str) -> Contract:
    """The contract of a cohort, also of one whose arrays are damaged.

    Raises:
        CohortError: no cohort, not finished, or a changed or unreadable contract.
    """
    return _read_contract(Path(path))[0]


def write_cohort(
    path: Path | str,
    contract: Contract,
    volumes: Iterable[np.ndarray],
    participants: pd.DataFrame,
    affines: np.ndarray | None = None,
    labels: Iterable[np.ndarray | None] | None = None,
    quarantine: pd.DataFrame | None = None,
) -> Cohort:
    """Write a cohort from arrays in memory; published whole or not at all.

    Args:
        path: its folder, replaced if it exists.
        contract: says ``size``, ``storage`` and ``value_range`` of what is written.
        volumes: n cubes [size, size, size], in the contract's value range.
        participants: at least ``scan_id``; missing columns are filled with empty cells.
        affines: [n, 4, 4]; without them ``spacing`` and the cube's centre at the origin.
        labels: n label maps of the same size, None for a scan without one.
        quarantine: what could not be prepared.

    Raises:
        CohortError: counts, sizes or values that contradict each other.
        VoltaError: the folder cannot be written.
    """
    path, table = Path(path), complete(participants)
    n = len(table)
    maps = [None] * n if labels is None else list(labels)
    if len(maps) != n:
        raise CohortError(f"{len(maps)} label maps for {n} scans", where=path, fix="Pair them")
    given = np.array([m is not None for m in maps], bool)
    unnamed = given & (table["label_file"] == "").to_numpy()
    table.loc[unnamed, "label_file"] = table.loc[unnamed, "scan_id"] + "_dseg"
    table.loc[~given, "label_file"] = ""
    if affines is None:
        affines = np.repeat(centred_affine(contract.spacing, contract.size)[None], n, axis=0)
    if n == 0 or affines.shape != (n, 4, 4):
        raise CohortError(f"{n} scans, affines {affines.shape}", where=path, fix="Pair them")
    with atomic_folder(path) as folder:
        _write_cubes(folder / VOLUMES, contract, (encode(v, contract) for v in volumes), n)
        if given.any():
            empty = np.zeros((contract.size,) * 3, np.uint16)
            cubes = (empty if m is None else np.asarray(m).astype(np.uint16) for m in maps)
            _write_cubes(folder / LABELS, contract, cubes, n)
        write_affines(folder / AFFINES, affines)
        write_tables(folder, table, quarantine)
        seal(folder, contract, table)
    return Cohort.open(path)


def centred_affine(spacing: float, size: int) -> np.ndarray:
    """The affine of a cube whose centre lies at the world's origin."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (size - 1) / 2
    return affine


def write_tables(
    folder: Path, participants: pd.DataFrame, quarantine: pd.DataFrame | None = None
) -> None:
    """Write ``participants.tsv`` and ``quarantine.tsv`` into a cohort being built."""
    write_table(folder / PARTICIPANTS, participants)
    if quarantine is None:
        quarantine = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))
    write_table(folder / QUARANTINE, quarantine)


def seal(folder: Path, contract: Contract, participants: pd.DataFrame) -> None:
    """Write ``contract.yaml``, the last file: without it a cohort does not open."""
    content: dict[str, Any] = {"format": FORMAT, **contract.content()}
    content["contract_hash"] = contract.hash()
    content["cohort_hash"] = _cohort_hash(contract, participants)
    write_text(folder / CONTRACT, yaml.safe_dump(content, sort_keys=False))


def _write_cubes(path: Path, contract: Contract, cubes: Iterable[np.ndarray], count: int) -> None:
    array = create_cubes(
        path, count, contract.size, contract.storage if path.name == VOLUMES else "uint16"
    )
    written = 0
    for cube in cubes:
        if written >= count or cube.shape != (contract.size,) * 3:
            raise CohortError(
                f"Volume {written} is {cube.shape}, wanted {count} of {(contract.size,) * 3}",
                where=path.name,
                fix="Give one cube of the contract's size per row of the table",
            )
        array[written] = cube
        written += 1
    if written != count:
        raise CohortError(f"{written} volumes for {count} scans", where=path.name, fix="Pair them")


def _read_contract(path: Path) -> tuple[Contract, str]:
    if not path.is_dir():
        raise CohortError(
            "No cohort there", where=path, fix="Make one with: volta3d prepare SCANS --out FOLDER"
        )
    file = path / CONTRACT
    if not file.is_file():
        if holds_scans(path):
            raise CohortError(
                "These scans aren't prepared yet",
                where=path,
                fix=f"Prepare them first: volta3d prepare {path} --out COHORT",
            )
        raise CohortError(
            f"Not a finished cohort: {CONTRACT} is missing",
            where=path,
            fix="If its preparation was stopped, run the same volta3d prepare command again",
        )
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"), where=file)
        found = content.pop("format", None)
        if found != FORMAT:
            raise ConfigError(f"Format {found} of the cohort is unknown", where=file)
        stated = content.pop("contract_hash", ""), content.pop("cohort_hash", "")
        contract = build(Contract, content)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise CohortError(
            f"The cohort's contract cannot be read: {error}",
            where=file,
            fix="Prepare the cohort again",
        ) from error
    if contract.hash() != stated[0]:
        raise CohortError(
            "The cohort's contract was changed after it was prepared",
            where=file,
            fix="Prepare the cohort again with the settings wanted",
        )
    return contract, str(stated[1])


def holds_scans(path: Path) -> bool:
    """Whether a folder holds scans as they come: among its first files, three folders deep."""
    patterns = ("*", "*/*", "*/*/*", "*/*/*/*")
    files = islice(chain.from_iterable(path.glob(pattern) for pattern in patterns), LOOKED_AT)
    return any(file.name.lower().endswith(RAW) for file in files)


def _cohort_hash(contract: Contract, participants: pd.DataFrame) -> str:
    scans: Sequence[list[str]] = [
        [str(row.scan_id), str(row.source_sha256)] for row in participants.itertuples()
    ]
    return content_hash({"contract": json.loads(contract.model_dump_json()), "scans": scans})
