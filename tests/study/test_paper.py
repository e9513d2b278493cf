"""The paper's own study on synthetic archives, from five folders to its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from volta3d.config import load_study
from volta3d.phantom.archives import ARCHIVES, write_archives
from volta3d.study import study


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_archives_become_the_papers_tables(tmp_path: Path) -> None:
    archives = write_archives(tmp_path / "archives", spacing=7.0)
    sources = {name: str(archives / folder) for name, folder in ARCHIVES.items()}
    config = load_study("paper", sources, "tiny").model_dump(mode="json")
    config["tasks"]["sex"]["fractions"] = [0.2, 1.0]  # for the clock; nothing else differs
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    result = study(tmp_path / "paper.yaml", tmp_path / "out", say=lambda _: None)
    assert result.failed == {}
    page = (tmp_path / "out" / "RESULTS.md").read_text(encoding="utf-8")
    assert "The scans are SYNTHETIC" in page
    for title in ("Table I.", "Figure 2.", "Table II.", "Table III.", "Figure 3."):
        assert f"**{title}**" in page
    table_1, table_2, table_3 = re.findall(
        r"\| model [^\n]*published[^\n]*\n(?:\|[^\n]*\n?)+", page
    )
    for table in (table_1, table_2):
        assert all(f"| {arm} |" in table for arm in ("volta", "vit", "swin"))
        assert "AUROC | sensitivity | specificity" in table
    assert "0.98 ± 0.01" in table_1 and "0.72 ± 0.10" in table_2 and "0.87" in table_3
    assert "Dice | HD95 (mm)" in table_3 and all(a in table_3 for a in ("volta", "unetr", "unet"))
    assert "CN against AD: 10 people, 10 scans, one a person" in page
    out = re.search(r"Nobody of `harp` was pretrained on: (\d+) scans", page)
    assert out and int(out[1]) >= 8
    figures = tmp_path / "out" / "tasks" / "hippocampus" / "figures"
    assert (figures / "outlines.png").is_file()
