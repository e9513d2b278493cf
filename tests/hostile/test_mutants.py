"""Thousands of damaged DICOM files: each is refused by name or converted, in bounded time."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from volta3d.prepare.dicom import convert_folder

SECONDS = 30.0  # for one mutant, on a busy machine; a healthy one takes a tenth of one


def mutants(count: int, seed: int, work: Path, dicom: ModuleType) -> tuple[int, set[str]]:
    """Convert ``count`` damaged series; how many still convert, and the codes of the others."""
    rng = np.random.default_rng(seed)
    root = dicom.write(work / "in", dicom.slices(dicom.head((8, 8, 8))))
    whole = {path: path.read_bytes() for path in sorted(root.iterdir())}
    header = len(whole[root / "0.dcm"]) - 8 * 8 * 2
    converted, codes = 0, set[str]()
    for k in range(count):
        everywhere = k % 2  # half of them are damaged in the same way in every slice
        places = rng.integers(128, header, rng.integers(1, 6))
        values = rng.choice([0, 1, 32, 48, 57, 127, 128, 255, int(rng.integers(256))], len(places))
        cut = int(rng.integers(len(whole[root / "0.dcm"]))) if k % 10 == 9 else None
        chosen = list(whole) if everywhere else [list(whole)[int(rng.integers(8))]]
        for path in chosen:
            raw = bytearray(whole[path])
            for at, value in zip(places, values, strict=True):
                if at < len(raw):
                    raw[at] = value
            path.write_bytes(bytes(raw[:cut]))
        began = time.monotonic()
        candidates, refused = convert_folder(root, work / "out")
        assert time.monotonic() - began < SECONDS, f"mutant {k} took too long"
        converted += bool(candidates)
        for _, finding in refused:
            assert finding.code != "unforeseen" and finding.what and finding.how_to_fix
            codes.add(finding.code)
        for path in chosen:
            path.write_bytes(whole[path])
    return converted, codes


def test_S18_mutants_of_dicom_give_only_typed_refusals(tmp_path: Path, dicom: ModuleType) -> None:
    converted, codes = mutants(100, 11, tmp_path, dicom)
    assert 5 < converted < 95  # neither all harmless nor all fatal
    assert len(codes) > 5


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_S18_two_thousand_mutants_of_dicom(tmp_path: Path, dicom: ModuleType) -> None:
    converted, codes = mutants(2000, 12, tmp_path, dicom)
    assert 100 < converted < 1900 and len(codes) > 8
