"""The layout of docs/how-to/add-a-layout.md works as it is printed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from volta3d.prepare.layouts import LAYOUTS, detect, discover

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "add-a-layout.md"


def test_the_example_is_a_layout(
    tmp_path: Path, scan: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    file = tmp_path / "lighthouse.py"
    file.write_text(found[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("lighthouse", file)
    assert spec is not None and spec.loader is not None
    layout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layout)
    monkeypatch.setattr("volta3d.prepare.layouts.LAYOUTS", {"lighthouse": layout, **LAYOUTS})
    root = tmp_path / "lighthouse"
    for name in ("LH-0007/v1", "LH-0007/v2", "LH-0009/v1"):
        scan(root / "scans" / name / "t1.nii.gz")
    (root / "people.csv").write_text("code;birth;female_male;age;group\nLH-0007;1941;0;70,5;pat\n")
    assert detect(root) == "lighthouse"
    first, second, third = discover(root).scans
    assert (first.scan_id, second.session) == ("lighthouse_LH-0007_v1", "v2")
    assert (first.sex, first.age, first.diagnosis) == ("F", 70.5, "pat")
    assert {f.code for f in third.findings} >= {"no-participant-row", "sex-unknown"}


def test_no_archive_is_taken_for_the_example(adni: Path, ixi: Path) -> None:
    assert (detect(adni), detect(ixi)) == ("adni", "ixi")
