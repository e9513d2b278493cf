"""The scans of a cohort that a segmentation can be trained and tested on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from volta3d.cohort.store import Cohort
from volta3d.cohort.subjects import subjects_of
from volta3d.downstream.segmentation.labelcheck import check_labels
from volta3d.downstream.segmentation.sliding import black_of, foreground_box
from volta3d.downstream.segmentation.structures import (
    HIPPOCAMPI,
    Structure,
    classes_of,
    resolve,
)
from volta3d.errors import CohortError, UsageError
from volta3d.files import content_hash
from volta3d.prepare.rows import label_of_cell
from volta3d.prepare.scan import Label

MOST = 4096  # voxels of a structure that crops are centred on
LISTED = 20  # label values that a message names


@dataclass
class LabelledScans:
    """Scans with sound label maps, in the order of the cohort.

    Attributes:
        cohort: where they come from.
        structures: what is to be segmented.
        rows: index of each scan in the cohort.
        refused: scans left out: ``scan_id``, ``code``, ``what``, ``how_to_fix``.
        volume_mm3: of all structures together, by scan.
        blacks: of each scan the value of what lies outside the head.
        value_range: black and white of the crops.
    """

    cohort: Cohort
    structures: tuple[Structure, ...]
    device: torch.device
    rows: list[int]
    refused: list[dict[str, str]]
    volume_mm3: list[float]
    blacks: list[float]
    value_range: tuple[float, float]
    _labels: list[Tensor]
    _voxels: list[list[np.ndarray]]
    _boxes: list[tuple[np.ndarray, np.ndarray]]
    _volumes: list[Tensor] | None = field(default=None)

    @classmethod
    def open(
        cls,
        cohort: Cohort,
        labels: Any,
        side_ratio: float,
        device: torch.device,
        *,
        absent: bool = False,
    ) -> LabelledScans:
        """Read and check all label maps; see ``check_labels`` for ``side_ratio`` and ``absent``.

        Volumes and label maps are kept on the device when all of them fit there. Otherwise volumes
        are read again when they are wanted, and label maps wait in the CPU's memory.

        Raises:
            CohortError: no labels, or none that is sound.
            UsageError: labels that are not there, or in none of the sound label maps.
        """
        if not cohort.has_labels:
            raise CohortError(
                "The cohort has no label maps",
                where=cohort.path,
                fix="Prepare scans that have them: BIDS derivatives *_dseg.nii.gz, or "
                "NAME_dseg.nii.gz beside NAME.nii.gz in a plain folder",
            )
        structures = resolve(labels, cohort.contract.label_names, _present(cohort, labels))
        found = cls(cohort, structures, device, [], [], [], [], (0.0, 1.0), [], [], [])
        whole = [np.inf, -np.inf]
        fits = _fits(cohort, device)
        kept: list[Tensor] = []
        for index in range(len(cohort)):
            classes = found._classes(index, side_ratio, absent)
            if classes is None:
                continue
            volume = torch.from_numpy(cohort.volume(index))
            whole = [min(whole[0], float(volume.min())), max(whole[1], float(volume.max()))]
            found._add(index, classes, volume, device if fits else torch.device("cpu"))
            if fits:
                kept.append(volume.to(device))
        if not found.rows:
            first = found.refused[0]
            raise CohortError(
                f"None of the {len(cohort)} label maps can be used; the first: {first['what']}",
                where=first["scan_id"],
                fix=first["how_to_fix"],
            )
        found._check_present()
        found.value_range = cohort.contract.value_range or (whole[0], whole[1])
        found._volumes = kept if fits else None
        return found

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def scan_ids(self) -> list[str]:
        """In the order of ``rows``."""
        return [self.cohort.scan_ids[row] for row in self.rows]

    @cached_property
    def subjects(self) -> list[str]:
        """Whose each scan is, see :func:`volta3d.cohort.subjects.subjects_of`."""
        subjects, _ = subjects_of(self.cohort.participants)
        return [subjects[row] for row in self.rows]

    def volume(self, index: int) -> Tensor:
        """Prepared cube [E, E, E] in fp32 on the device."""
        if self._volumes is not None:
            return self._volumes[index]
        return torch.from_numpy(self.cohort.volume(self.rows[index])).to(self.device)

    def label(self, index: int) -> Tensor:
        """Its classes, uint8 [E, E, E] on the device."""
        return self._labels[index].to(self.device)

    def voxels(self, index: int) -> list[np.ndarray]:
        """Up to some thousand voxels of each structure, [n, 3]."""
        return self._voxels[index]

    def shares(self, indices: Sequence[int], size: int) -> list[float]:
        """The share of each class, background first, in crops that hold all of its voxels.

        Args:
            indices: of scans.
            size: edge of a crop.
        """
        classes = len(self.structures) + 1
        counts = np.zeros(classes)
        for index in indices:
            counts += np.bincount(self._labels[index].cpu().numpy().ravel(), minlength=classes)
        own = np.minimum(counts[1:] / (max(1, len(indices)) * size**3), 0.3)
        return [float(max(0.1, 1 - own.sum())), *map(float, own)]

    def inside(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """First and last voxel of the head's box."""
        return self._boxes[index]

    def label_source(self, index: int) -> Label | None:
        """The file of its label map, or its files; None in a cohort made from arrays."""
        table = self.cohort.participants
        if not table["source"].iloc[0]:
            return None
        cell = str(table["label_file"].iloc[self.rows[index]])
        return label_of_cell(cell, self.cohort.path)

    def label_sha256(self, index: int) -> str:
        """The hash of its label map when it was prepared; empty in a cohort of an older version."""
        return str(self.cohort.participants["label_sha256"].iloc[self.rows[index]])

    def identity(self) -> dict[str, Any]:
        """What a run remembers of its data, to refuse other data on resume."""
        identity = {
            "cohort": self.cohort.hash(),
            "structures": [s.content() for s in self.structures],
            "scans": content_hash(self.scan_ids),
        }
        hashes = [self.label_sha256(i) for i in range(len(self))]
        return identity | ({"label_maps": content_hash(hashes)} if any(hashes) else {})

    def _classes(self, index: int, side_ratio: float, absent: bool) -> np.ndarray | None:
        label = self.cohort.label(index)
        scan_id = self.cohort.scan_ids[index]
        if label is None:
            self._refuse(scan_id, "no-label", "It has no label map", "Add one and prepare again")
            return None
        classes = classes_of(label, self.structures)
        affine = self.cohort.affine(index)
        problem = check_labels(classes, affine, self.structures, side_ratio, absent=absent)
        if problem is not None:
            self._refuse(scan_id, problem.code, problem.what, problem.how_to_fix)
            return None
        return classes

    def _check_present(self) -> None:
        """Refuse structures that nothing could be learnt of.

        Raises:
            UsageError: one has no voxel in any of the scans.
        """
        gone = [
            s for i, s in enumerate(self.structures) if not any(len(v[i]) for v in self._voxels)
        ]
        if not gone:
            return
        names, there = self.cohort.contract.label_names, sorted(_values(self.cohort))
        listed = [f"{v} {names.get(v, '')}".rstrip() for v in there[:LISTED]]
        more = [f"and {len(there) - LISTED} more"] if len(there) > LISTED else []
        raise UsageError(
            f"None of the {len(self)} label maps that can be used has a voxel of "
            + " or ".join(_numbered(s) for s in gone),
            where="labels",
            fix=f"Ask for values that are there ({', '.join(listed + more) or 'none is'}): "
            "--set labels",
        )

    def _refuse(self, scan_id: str, code: str, what: str, fix: str) -> None:
        row = {"scan_id": scan_id, "code": code, "what": what, "how_to_fix": fix}
        self.refused.append(row)

    def _add(self, index: int, classes: np.ndarray, volume: Tensor, device: torch.device) -> None:
        black = black_of(volume, self.cohort.contract)
        box = foreground_box(volume, black)
        first = np.array([s.start for s in box])
        last = np.array([s.stop - 1 for s in box])
        voxels = [np.argwhere(classes == i + 1) for i in range(len(self.structures))]
        self.rows.append(index)
        self.blacks.append(black)
        self._boxes.append((first, last))
        self._voxels.append([v[:: max(1, len(v) // MOST)].astype(np.int16) for v in voxels])
        self._labels.append(torch.from_numpy(classes).to(device))
        voxel = abs(float(np.linalg.det(self.cohort.affine(index)[:3, :3])))
        self.volume_mm3.append(sum(len(v) for v in voxels) * voxel)


def _present(cohort: Cohort, labels: Any) -> list[int]:
    """The label values that occur, as far as they decide what ``labels`` are.

    That is for hippocampi where no value has a name. Scans are read until FreeSurfer's numbers
    have been seen, as any one scan may lack one.
    """
    if cohort.contract.label_names or not isinstance(labels, str):
        return []
    return sorted(_values(cohort, enough=HIPPOCAMPI))


def _values(cohort: Cohort, enough: Collection[int] = ()) -> set[int]:
    """The label values that occur; no more scans are read once ``enough`` are among them."""
    found: set[int] = set()
    for index in range(len(cohort)):
        label = cohort.label(index)
        if label is not None:
            found |= {int(v) for v in np.unique(label) if v}
        if enough and found.issuperset(enough):
            break
    return found


def _numbered(structure: Structure) -> str:
    values = " or ".join(str(v) for v in structure.values)
    return f"'{structure.name}' (label {values})"


def _fits(cohort: Cohort, device: torch.device) -> bool:
    needed = 5 * len(cohort) * cohort.contract.size**3
    if device.type == "cuda":
        return bool(needed < 0.4 * torch.cuda.mem_get_info(device)[0])
    return bool(needed < 0.4 * psutil.virtual_memory().available)
