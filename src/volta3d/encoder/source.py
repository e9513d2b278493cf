"""What is to be embedded: prepared cohorts, or raw scans that are prepared on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from volta3d.cohort.arrays import decode, encode
from volta3d.cohort.participants import COLUMNS, complete
from volta3d.cohort.store import CONTRACT, Cohort
from volta3d.encoder.matching import HasContract, check_contract
from volta3d.encoder.raw_scans import NO_SOURCE, find_scans, no_source, nothing_found
from volta3d.encoder.scale import voxel_mm
from volta3d.errors import CohortError, UsageError, VoltaError
from volta3d.prepare.extras import require_extras
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.scan import Scan, plain
from volta3d.prepare.source import prepare_source, source_sha256


@dataclass(frozen=True)
class PreparedScan:
    """One scan, ready to be read.

    Args:
        row: its row of participants.tsv, as a table of one row.
        volume: the prepared cube [D, H, W].
        mm: edge of its voxel.
        cohort: where it is from; None: prepared on the way.
    """

    row: pd.DataFrame
    volume: np.ndarray
    mm: float
    cohort: Cohort | None = None


@dataclass
class Source:
    """Prepared cubes in order, with what is known of each scan.

    Attributes:
        count: scans to expect, refused ones included.
        synthetic: whether any of them is.
        cohorts: those among them.
        scans: those that are prepared on the way.
        encoder: says how.
        refused: paths that are no source and scans that could not be prepared: ``source``,
            ``code``, ``what``, ``how_to_fix``; complete once ``cubes`` is exhausted.
    """

    cohorts: list[Cohort]
    scans: list[Scan]
    encoder: HasContract
    refused: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        data: Path | str | Sequence[Path | str],
        encoder: HasContract,
        check: Callable[[Cohort], object] | None = None,
    ) -> Source:
        """Find out what ``data`` is: cohort folders, scans, folders of scans, or a mixture.

        What cannot be read is refused as long as there is anything else. Raw scans have ids that
        differ, and each file is taken once (``find_scans``); the ids of cohorts stay.

        Args:
            data: paths.
            encoder: what the scans are prepared for.
            check: refuses a cohort; None: one of another preparation (``check_contract``).

        Raises:
            EncoderError: a cohort was prepared in another way than the encoder wants.
            CohortError: not one path can be used: each is missing, damaged or holds no scan.
            UsageError: nothing given, an id that two cohorts share, or a cohort and a raw scan; or
                the preparation needs what is not installed.
        """
        paths = [Path(data)] if isinstance(data, Path | str) else [Path(p) for p in data]
        if not paths:
            raise UsageError("Nothing to embed", fix="Name a cohort or a scan")
        prepared = [p for p in paths if _is_cohort(p)]
        cohorts, damaged = _cohorts(prepared, check or partial(check_contract, encoder))
        scans, refused = find_scans(p for p in paths if p not in prepared)
        refused = [*damaged, *refused]
        if not cohorts and not scans and all(f.code == NO_SOURCE for _, f in refused):
            raise nothing_found(refused)
        if scans:
            require_extras(encoder.contract)
        _check_ids(cohorts, scans)
        return cls(cohorts, scans, encoder, [_refusal(p, f) for p, f in refused])

    @property
    def count(self) -> int:
        """Scans to go through."""
        return sum(len(cohort) for cohort in self.cohorts) + len(self.scans)

    @property
    def synthetic(self) -> bool:
        """Whether any of the scans is synthetic."""
        cohorts = any(cohort.contract.synthetic for cohort in self.cohorts)
        return cohorts or any(scan.synthetic for scan in self.scans)

    def cubes(self) -> Iterator[PreparedScan]:
        """The scans one by one.

        A scan that cannot be prepared is noted in ``refused`` and passed over.

        Raises:
            CohortError: a cohort holds a damaged cube.
        """
        for cohort in self.cohorts:
            for index in range(len(cohort)):
                row, volume = cohort.participants.iloc[[index]], cohort.volume(index)
                yield PreparedScan(row, volume, voxel_mm(cohort.affine(index)), cohort)
        for scan in self.scans:
            try:
                yield self._prepare(scan)
            except Refused as error:
                self.refused.append(_refusal(scan.source, error.finding))
            except Exception as error:  # whatever a broken file provokes, the others go on
                what = f"Cannot be read: {type(error).__name__}: {error}"
                finding = Finding("error", "unreadable", what, "Fetch or restore the file")
                self.refused.append(_refusal(scan.source, finding))

    def _prepare(self, scan: Scan) -> PreparedScan:
        contract = self.encoder.contract
        prepared = prepare_source(replace(scan, label=None), contract)
        codes = [f.code for f in (*scan.findings, *prepared.findings)]
        row = {
            **{c: getattr(scan, c, "") for c in COLUMNS},
            "label_file": "",
            "source": plain(str(scan.source)),
            "source_sha256": source_sha256(scan),
            "foreground_mm3": prepared.foreground_mm3,
            "brain_mm3": prepared.brain_mm3,
            "findings": ";".join(dict.fromkeys(codes)),
        }
        # through the storage's rounding, so that a cohort made of this scan gives the same features
        volume = decode(encode(prepared.volume, contract), contract)
        known = complete(pd.DataFrame([row], columns=list(COLUMNS)))
        return PreparedScan(known, volume, voxel_mm(prepared.affine))

    def none_left(self) -> VoltaError:
        """The error when not one scan could be used."""
        if not self.refused:
            return VoltaError("There is no scan to embed", fix="Prepare some scans first")
        first = self.refused[0]
        return VoltaError(
            f"None of the {len(self.refused)} scans could be prepared; the first: {first['what']}",
            where=first["source"],
            fix=first["how_to_fix"],
        )


def _is_cohort(path: Path) -> bool:
    try:
        return (path / CONTRACT).is_file()
    except OSError:  # a folder that may not be looked into
        return False


def _cohorts(
    paths: Sequence[Path], check: Callable[[Cohort], object]
) -> tuple[list[Cohort], list[tuple[Path, Finding]]]:
    cohorts: list[Cohort] = []
    damaged: list[tuple[Path, Finding]] = []
    for path in paths:
        try:
            cohort = Cohort.open(path)
        except CohortError as error:
            damaged.append((path, no_source(path, error)))
            continue
        check(cohort)
        cohorts.append(cohort)
    return cohorts, damaged


def _check_ids(cohorts: Sequence[Cohort], scans: Sequence[Scan]) -> None:
    ids = Counter(i for cohort in cohorts for i in cohort.scan_ids)
    ids.update(scan.scan_id for scan in scans)
    repeated = next((i for i, count in ids.items() if count > 1), None)
    if repeated is not None:
        raise UsageError(
            "Two scans have the same id",
            where=repeated,
            fix="Give each scan once: one cohort that holds it, or the scan itself",
        )


def _refusal(path: Path, finding: Finding) -> dict[str, str]:
    return {
        "source": plain(str(path)),
        "code": finding.code,
        "what": plain(finding.what),
        "how_to_fix": plain(finding.how_to_fix),
    }
