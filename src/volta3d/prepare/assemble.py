"""Pieces become a cohort, and a cohort becomes pieces again, without touching a voxel.

A piece holds its volume as the very chunk the cohort stores, so assembling is linking files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from volta3d.cohort.arrays import (
    AFFINES,
    LABELS,
    VOLUMES,
    chunk_path,
    create_cubes,
    decode,
    open_array,
    read_cube,
    write_affines,
)
from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import write_table
from volta3d.cohort.store import CONTRACT, Cohort, seal, write_tables
from volta3d.files import atomic_folder, read_json, write_json, write_text
from volta3d.planes import convention
from volta3d.prepare.prepared_scan import FACTS, PICTURE
from volta3d.prepare.qc import drawn_under, mosaic, write_png
from volta3d.prepare.qcpage import page

KEYS = "preparation.json"
QC = "qc"
FINDINGS = "findings.tsv"


@dataclass(frozen=True)
class Tables:
    """What is known about the scans of a cohort.

    Args:
        participants: the complete table, one row per scan.
        quarantine: what could not be prepared, and why.
        findings: what was noticed, one row per scan and finding.
    """

    participants: pd.DataFrame
    quarantine: pd.DataFrame
    findings: pd.DataFrame


def assemble(folder: Path, pieces: Sequence[Path], contract: Contract, tables: Tables) -> None:
    """Build everything of a cohort but its seal; ``folder`` is published whole.

    Args:
        folder: where.
        pieces: one per row of the participants table.
        contract: the preparation contract.
        tables: what is known.
    """
    with atomic_folder(folder) as building:
        _arrays(building, pieces, contract)
        write_tables(building, tables.participants, tables.quarantine)
        _pictures(building, pieces, contract, tables.participants["scan_id"].tolist())
        write_table(building / QC / FINDINGS, tables.findings)
        text = page(contract, tables.participants, tables.quarantine, tables.findings)
        write_text(building / QC / "index.html", text)
        write_json(building / KEYS, [{"key": p.name, **read_facts(p)} for p in pieces])


def _arrays(folder: Path, pieces: Sequence[Path], contract: Contract) -> None:
    n, facts = len(pieces), [read_facts(p) for p in pieces]
    create_cubes(folder / VOLUMES, n, contract.size, contract.storage)
    for index, piece in enumerate(pieces):
        _link(chunk_path(piece / VOLUMES, 0), chunk_path(folder / VOLUMES, index))
    if any(f["has_label"] for f in facts):
        empty = np.zeros((contract.size,) * 3, np.uint16)
        labels = create_cubes(folder / LABELS, n, contract.size, "uint16")
        for index, (piece, fact) in enumerate(zip(pieces, facts, strict=True)):
            if fact["has_label"]:
                _link(chunk_path(piece / LABELS, 0), chunk_path(folder / LABELS, index))
            else:
                labels[index] = empty
    write_affines(folder / AFFINES, np.array([f["affine"] for f in facts], np.float64))


def _pictures(
    folder: Path, pieces: Sequence[Path], contract: Contract, scan_ids: Sequence[str]
) -> None:
    """Each piece's picture; drawn again where another left-right convention was in force."""
    shape = (len(pieces), *(contract.size,) * 3)
    for index, (piece, scan_id) in enumerate(zip(pieces, scan_ids, strict=True)):
        target = folder / QC / f"{scan_id}.png"
        if drawn_under(piece / PICTURE) == convention():
            _link(piece / PICTURE, target)
            continue
        stored = open_array(folder / VOLUMES, shape, contract.storage)
        label = None
        if read_facts(piece)["has_label"]:
            labels = open_array(folder / LABELS, shape, "uint16")
            label = read_cube(labels, index, folder / LABELS)
        volume = decode(read_cube(stored, index, folder / VOLUMES), contract)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png(target, mosaic(volume, label, contract))


def publish(built: Path, out: Path, contract: Contract, participants: pd.DataFrame) -> None:
    """Move an assembled cohort to its place and seal it; at no moment can a part of it be opened.

    The old seal goes first and the new one comes last. If this is interrupted, the pieces are
    still there and the next run assembles them again.
    """
    (out / CONTRACT).unlink(missing_ok=True)
    if not (built / LABELS).is_dir():
        shutil.rmtree(out / LABELS, ignore_errors=True)
    for entry in sorted(built.iterdir()):
        target = out / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)
    seal(out, contract, participants)


def unpack(cohort: Cohort, records: Sequence[Mapping[str, Any]], pieces: Path) -> None:
    """The scans of a finished cohort as pieces again, for a run that adds or changes some."""
    for index, (record, scan_id) in enumerate(zip(records, cohort.scan_ids, strict=True)):
        piece = pieces / record["key"]
        kinds = [VOLUMES, LABELS] if record["has_label"] else [VOLUMES]
        for kind in kinds:
            _link(chunk_path(cohort.path / kind, index), chunk_path(piece / kind, 0))
        _link(cohort.path / QC / f"{scan_id}.png", piece / PICTURE)
        write_json(piece / FACTS, {k: v for k, v in record.items() if k != "key"})


def read_records(cohort: Cohort) -> list[dict[str, Any]]:
    """Key and facts of every scan of a finished cohort; [] if it was not made by ``prepare``."""
    file = cohort.path / KEYS
    records: list[dict[str, Any]] = read_json(file) if file.is_file() else []
    return records if len(records) == len(cohort) else []


def read_facts(piece: Path) -> dict[str, Any]:
    """What a piece knows about its scan."""
    facts: dict[str, Any] = read_json(piece / FACTS)
    return facts


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
