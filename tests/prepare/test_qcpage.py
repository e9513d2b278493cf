"""The QC page: self-contained, escaped, quarantine first, findings as data."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import QUARANTINE_COLUMNS, complete
from volta3d.config import PrepareConfig
from volta3d.prepare import prepare
from volta3d.prepare.qc import PALETTE, mosaic, outline
from volta3d.prepare.qcpage import FACES, page
from volta3d.prepare.rows import FINDING_COLUMNS

EVIL = "<script>alert(1)</script>\"'&"


def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    people = complete(pd.DataFrame({"scan_id": ["a", "b"], "site": [EVIL, ""], "age": [30, None]}))
    refused = pd.DataFrame([[EVIL, "crc", "Damaged", "Copy"]], columns=list(QUARANTINE_COLUMNS))
    rows = [
        ["a", "info", "synthetic", "Not real", ""],
        ["b", "warning", "spike", EVIL, "Look at it"],
    ]
    return people, refused, pd.DataFrame(rows, columns=list(FINDING_COLUMNS))


class Outline(HTMLParser):
    """Tags in order and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "a":
            self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset") and v]


def test_S11_what_a_file_says_is_text_and_nothing_is_fetched() -> None:
    text = page(Contract(), *tables())
    seen = Outline()
    seen.feed(text)
    assert EVIL not in text and text.count("&lt;script&gt;alert(1)") == 4
    assert seen.tags.count("script") == 1  # the page's own
    assert seen.fetched == ["b.png", "a.png"]  # the one with a warning first
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", text)
    assert "default-src 'none'" in text


def test_quarantine_comes_first_then_warnings_then_infos() -> None:
    text = page(Contract(), *tables())
    order = [
        text.index(word) for word in ("Quarantined: 1", "Findings: 2", ">spike<", ">synthetic<")
    ]
    assert order == sorted(order) and order[-1] < text.index("<figure")
    assert "Look at it" in text
    # every finding is a row with its level as the key to sort by, without any script
    assert 'data-key="1">warning' in text and 'data-key="2">info' in text


@pytest.mark.parametrize("strip", ["none", "deepbet", "mask"])
def test_P8_whether_faces_are_visible_is_said(strip: str) -> None:
    text = page(Contract(skull_strip=strip), *tables())  # type: ignore[arg-type]
    assert FACES[strip] in text
    assert ("Faces are visible" in text) == (strip == "none")


def test_a_cohort_without_anything_to_tell() -> None:
    people, refused, found = tables()
    text = page(Contract(scaling="zscore", fit="pad", bias="n4"), people, refused[:0], found[:0])
    assert "Quarantined:" not in text and "Findings: 0" in text and "z-scores" in text


def test_the_page_of_a_prepared_cohort(tmp_path: Path, bids: Callable[..., Path]) -> None:
    root = bids(2)
    (root / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"nothing")
    prepare([root], tmp_path / "c", config=PrepareConfig(size=16, spacing=4))
    qc = tmp_path / "c" / "qc"
    assert sorted(p.suffix for p in qc.iterdir()) == [".html", ".png", ".tsv"]
    picture = next(qc.glob("*.png"))
    text = (qc / "index.html").read_text(encoding="utf-8")
    assert f'src="{picture.name}"' in text and "truncated" in text
    with Image.open(picture) as shown:
        assert shown.size == (3 * 16, 2 * 16)
    found = pd.read_csv(qc / "findings.tsv", sep="\t", keep_default_na=False)
    assert list(found.columns) == list(FINDING_COLUMNS)


def test_a_mosaic_shows_the_patient_s_right_on_the_right() -> None:
    volume = np.zeros((8, 8, 8), np.float32)
    volume[6], volume[:, 7], volume[:, :, 7] = 1, 0.5, 0.25
    picture = mosaic(volume, None, Contract(size=8))
    assert picture.shape == (8, 24, 3)
    sagittal, coronal, axial = np.split(picture[..., 0], 3, axis=1)
    assert (coronal[1:, 6] == 255).all() and (axial[1:, 6] == 255).all()
    assert (sagittal[1:, 7] == 128).all() and (sagittal[0, :7] == 64).all()  # front, top


def test_outlines_are_where_labels_meet() -> None:
    labels = np.zeros((6, 6), int)
    labels[1:5, 1:5], labels[1:5, 3:5] = 1, 2
    edge = outline(labels)
    for y, x in np.ndindex(labels.shape):
        near = [labels[(y + dy) % 6, (x + dx) % 6] for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        assert edge[y, x] == (labels[y, x] > 0 and any(n != labels[y, x] for n in near))
    volume, label = np.zeros((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.uint16)
    label[2:6, 2:6, 2:6] = 47
    picture = mosaic(volume, label, Contract(size=8))
    assert (picture[:8] == 0).all() and (PALETTE[47 % 20] == picture[8:]).all(axis=-1).sum() == 36
