"""One scan, prepared and published as a folder of its own: the unit of resuming."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.cohort.arrays import LABELS, VOLUMES, create_cubes, encode
from volta3d.cohort.contract import Contract
from volta3d.files import atomic_folder, content_hash, sha256, write_json
from volta3d.prepare.brainmask import find_mask
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.labels import hash_label_files, label_digest
from volta3d.prepare.qc import mosaic, write_png
from volta3d.prepare.scan import Scan
from volta3d.prepare.source import prepare_source, source_sha256
from volta3d.prepare.volume import Prepared

FACTS, PICTURE = "facts.json", "picture.png"
CONVERTED = "converted"  # beside the pieces: a folder for files that live as long as one scan


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: the key of its piece, or why it was refused."""

    key: str = ""
    source_sha256: str = ""
    label_sha256: str = ""
    refused: Finding | None = None
    fresh: bool = False


def make_prepared_scan(
    scan: Scan, contract: Contract, pieces: Path, known: Container[str] = frozenset()
) -> Outcome:
    """Prepare one scan into ``pieces/<key>``, unless it is there or ``known`` already.

    Whatever goes wrong with this scan is returned, never raised, so that a batch goes on; only
    failing to write (a full disk) is raised.

    Raises:
        VoltaError: the piece cannot be written.
    """
    prepared: Prepared | None = None

    def work() -> Outcome:
        nonlocal prepared
        digest = source_sha256(scan)
        mask = find_mask(scan.source) if contract.skull_strip == "mask" else None
        labels = hash_label_files(scan.label)
        label, stripped = label_digest(scan, labels), sha256(mask) if mask else ""
        key = preparation_key(digest, label, contract, mask_sha256=stripped)
        if key not in known and not (pieces / key).is_dir():
            prepared = prepare_source(scan, contract, pieces.parent / CONVERTED)
        return Outcome(key, digest, labels, fresh=prepared is not None)

    outcome = attempt(work)
    if prepared is not None:
        _publish(scan, prepared, contract, pieces / outcome.key)
    return outcome


def attempt(work: Callable[[], Outcome]) -> Outcome:
    """Do something with a scan; whatever goes wrong with it becomes the outcome."""
    try:
        return work()
    except Refused as error:
        return Outcome(refused=error.finding)
    except OSError as error:
        what, fix = f"Cannot be read: {error.strerror or error}", "Fetch or restore the file"
        return Outcome(refused=Finding("error", "unreadable", what, fix))
    except MemoryError:
        what, fix = "Not enough memory for this scan", "Prepare it with --workers 1"
        return Outcome(refused=Finding("error", "memory", what, fix))
    except Exception as error:  # anything else a broken file can provoke in a library
        what = f"Unforeseen {type(error).__name__}: {error}"
        fix = "Look at the scan; if it opens elsewhere, please report this"
        return Outcome(refused=Finding("error", "unforeseen", " ".join(what.split()), fix))


def preparation_key(
    source_sha256: str, label_sha256: str, contract: Contract, *, mask_sha256: str = ""
) -> str:
    """What the content of a piece depends on, as a hash."""
    given = [source_sha256, label_sha256, contract.software, contract.preparation()]
    return content_hash([*given, mask_sha256] if mask_sha256 else given)


def _publish(scan: Scan, prepared: Prepared, contract: Contract, folder: Path) -> None:
    facts: dict[str, Any] = {
        "affine": prepared.affine.tolist(),
        "foreground_mm3": prepared.foreground_mm3,
        "brain_mm3": None if math.isnan(prepared.brain_mm3) else prepared.brain_mm3,
        "findings": [f.content() for f in prepared.findings],
        "has_label": prepared.label is not None,
        "stripping": prepared.stripping,
    }
    if scan.series is not None:
        facts["acquisition"] = scan.series.acquisition
    with atomic_folder(folder) as temporary:
        stored = create_cubes(temporary / VOLUMES, 1, contract.size, contract.storage)
        stored[0] = encode(prepared.volume, contract)
        if prepared.label is not None:
            create_cubes(temporary / LABELS, 1, contract.size, "uint16")[0] = prepared.label
        write_png(temporary / PICTURE, mosaic(prepared.volume, prepared.label, contract))
        write_json(temporary / FACTS, facts)
