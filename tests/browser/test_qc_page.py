"""The QC page in a real browser: it sorts, it filters, it fits a phone, it asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import QUARANTINE_COLUMNS, complete
from volta3d.prepare.qc import write_png
from volta3d.prepare.qcpage import page
from volta3d.prepare.rows import FINDING_COLUMNS

if TYPE_CHECKING:
    from conftest import Browser

ROWS = "[...document.querySelectorAll('#findings tbody tr')]"


@pytest.fixture(scope="module")
def qc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of three scans, one of them with a name that needs escaping."""
    folder, names = tmp_path_factory.mktemp("qc"), ["plain", "b #1?", "zebra"]
    for number, name in enumerate(names):
        grey = np.full((24, 72, 3), 60 * number + 40, np.uint8)
        write_png(folder / f"{name}.png", grey)
    people = complete(pd.DataFrame({"scan_id": names, "site": ["A", "<b>B</b>", ""]}))
    long = "An impossible affine, " * 12
    refused = [["a/long/" + "folder/" * 12 + "x.nii.gz", "bad-affine", long, "Export it again"]]
    rows = [
        ["plain", "info", "synthetic", "Not a real scan", ""],
        ["b #1?", "warning", "spike", "A spike", "Look"],
        ["zebra", "info", "age-unknown", "Age is not given", ""],
    ]
    text = page(
        Contract(),
        people,
        pd.DataFrame(refused, columns=list(QUARANTINE_COLUMNS)),
        pd.DataFrame(rows, columns=list(FINDING_COLUMNS)),
    )
    path = folder / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_shows_its_pictures_and_stays_offline(
    browser: Browser, qc: Path, width: int
) -> None:
    browser.open(qc, width=width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    ready = "return [...document.images].map(i => (i.loading = 'eager', i.decode()))"
    browser.driver.execute_async_script(
        f"const done = arguments[0]; Promise.all((() => {{ {ready} }})()).then(() => done(1))"
    )
    assert browser.run("return [...document.images].map(i => i.naturalWidth)") == [72, 72, 72]
    assert all(url.startswith("file://") for url in browser.requests())
    assert browser.complaints() == []


def test_columns_sort_up_and_down(browser: Browser, qc: Path) -> None:
    browser.open(qc)
    column = f"return {ROWS}.map(row => row.cells[arguments[0]].textContent)"
    assert browser.run(column, 1) == ["warning", "info", "info"]  # worst first
    press = "document.querySelectorAll('#findings th button')[arguments[0]].click()"
    browser.run(press, 2)
    assert browser.run(column, 2) == ["age-unknown", "spike", "synthetic"]
    browser.run(press, 2)
    assert browser.run(column, 2) == ["synthetic", "spike", "age-unknown"]
    browser.run(press, 1)
    assert browser.run(column, 1) == ["warning", "info", "info"]
    sorted_by = "return [...document.querySelectorAll('#findings th')].map(h => h.ariaSort)"
    assert browser.run(sorted_by) == [None, "ascending", None, None, None]
    browser.run(
        "const s = document.getElementById('sort'); s.value = '0'; "
        "s.dispatchEvent(new Event('change'))"
    )
    assert browser.run(column, 0) == ["b #1?", "plain", "zebra"]


def test_findings_and_pictures_are_filtered(browser: Browser, qc: Path) -> None:
    browser.open(qc)
    left = f"return {ROWS}.filter(row => !row.hidden).length"
    choose = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; "
        "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'))"
    )
    browser.run(choose, "level", "warning")
    assert browser.run(left) == 1
    browser.run(choose, "level", "")
    browser.run(choose, "search", "NOT")
    assert browser.run(left) == 2
    browser.run(choose, "shown", "warning")
    shown = "return [...document.querySelectorAll('figure')].filter(f => !f.hidden).length"
    assert browser.run(shown) == 1
