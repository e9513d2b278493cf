"""A part of a cohort as a cohort of its own: disjoint parts for pretraining and for testing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np

from volta3d.cohort.arrays import AFFINES, LABELS, VOLUMES, chunk_path, create_cubes, write_affines
from volta3d.cohort.paths import moved_paths
from volta3d.cohort.store import Cohort, seal, write_tables
from volta3d.errors import CohortError
from volta3d.files import atomic_folder
from volta3d.randomness import derived_seed


def draw_subjects(cohort: Cohort, share: tuple[float, float], seed: int) -> list[str]:
    """The participants in one stretch of a random order.

    Parts with the same seed and stretches that don't overlap share no participant, and together
    [0, 1] holds everybody.

    Args:
        cohort: whose participants.
        share: from, to; within [0, 1].
        seed: of the order, which depends on nothing but it and each participant's id.

    Raises:
        CohortError: nobody lies in that stretch.
    """
    ids = sorted(set(cohort.participants["participant_id"].astype(str)))
    ids.sort(key=lambda name: derived_seed(seed, "part", name))
    first, last = (round(edge * len(ids)) for edge in share)
    if not 0 <= first < last <= len(ids):
        raise CohortError(
            f"The part from {share[0]:g} to {share[1]:g} of {len(ids)} participants is empty",
            where=cohort.path,
            fix="Choose 0 <= from < to <= 1, wide enough for one participant",
        )
    return ids[first:last]


def part_of(cohort: Cohort, out: Path | str, participants: Collection[str]) -> Cohort:
    """All scans of some participants as a new cohort with the same contract.

    The compressed scans are shared with the first cohort by hard links where the file system
    allows it, and copied elsewhere: nothing is decoded, nothing changes.

    Args:
        cohort: the whole.
        out: the new cohort's folder, published whole.
        participants: of `participant_id`; all must be there.

    Raises:
        CohortError: a participant is not in the cohort.
        VoltaError: ``out`` cannot be written.
    """
    out, wanted = Path(out), {str(p) for p in participants}
    everybody = cohort.participants["participant_id"].astype(str)
    strangers = sorted(wanted - set(everybody))
    if strangers or not wanted:
        raise CohortError(
            f"Not in the cohort: {', '.join(strangers[:5]) or 'nobody was named'}",
            where=cohort.path,
            fix="Name participant ids of its participants.tsv",
        )
    rows = np.flatnonzero(everybody.isin(wanted))
    table = cohort.participants.iloc[rows].reset_index(drop=True)
    table = moved_paths(table, cohort.path, out)
    contract = cohort.contract
    with atomic_folder(out) as folder:
        for name, dtype in ((VOLUMES, contract.storage), (LABELS, "uint16")):
            if not (cohort.path / name).is_dir():
                continue
            if name == LABELS and not (table["label_file"] != "").any():
                continue
            create_cubes(folder / name, len(rows), contract.size, dtype)
            for new, old in enumerate(rows):
                target = chunk_path(folder / name, new)
                target.parent.mkdir(parents=True, exist_ok=True)
                _share(chunk_path(cohort.path / name, int(old)), target)
        write_affines(folder / AFFINES, np.stack([cohort.affine(int(i)) for i in rows]))
        write_tables(folder, table)
        seal(folder, contract, table)
    return Cohort.open(out)


def _share(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
