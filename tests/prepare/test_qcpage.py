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
from volta3d.phantom import generate
from volta3d.prepare import prepare
from volta3d.prepare.qc import PALETTE, drawn_under, mosaic, outline
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
        assert shown.size == (3 * 256, 2 * 256)
    found = pd.read_csv(qc / "findings.tsv", sep="\t", keep_default_na=False)
    assert list(found.columns) == list(FINDING_COLUMNS)


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
    grey, outlined = np.split(picture, 2)
    coloured = (PALETTE[47 % 20] == outlined).all(axis=-1)
    assert coloured.sum() == 3 * 4 * (4 * 32 - 1)  # one pixel thick, each voxel 32 pixels
    assert (grey[coloured] == 0).all()


def test_a_picture_of_the_other_convention_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cohort that grows after the setting changed holds pictures of one convention only."""
    generate(tmp_path / "raw", subjects=2, spacing=8.0)
    config = PrepareConfig(size=16, spacing=8.0)
    prepare([tmp_path / "raw"], tmp_path / "cohort", config=config)
    pictures = sorted((tmp_path / "cohort" / "qc").glob("*.png"))
    before = [np.asarray(Image.open(p)) for p in pictures]
    assert {drawn_under(p) for p in pictures} == {"radiological"}
    monkeypatch.setenv("VOLTA3D_CONVENTION", "neurological")
    generate(tmp_path / "raw", subjects=3, spacing=8.0)
    prepare([tmp_path / "raw"], tmp_path / "cohort", config=config)
    pictures = sorted((tmp_path / "cohort" / "qc").glob("*.png"))
    assert [drawn_under(p) for p in pictures] == 3 * ["neurological"]
    after = np.asarray(Image.open(pictures[0]))
    panel, middle = slice(256, 512), slice(30, 226)  # coronal, without its letters
    turned = after[middle, panel][:, ::-1][:, middle]
    assert np.array_equal(before[0][middle, panel][:, middle], turned)
    page = (tmp_path / "cohort" / "qc" / "index.html").read_text(encoding="utf-8")
    assert "Neurological convention" in page


def test_it_looks_like_the_report() -> None:
    """The same colours, light and dark, as the report's own."""
    root = Path(__file__).resolve().parents[2] / "src" / "volta3d"
    ours = (root / "prepare" / "templates" / "qc.html").read_text(encoding="utf-8")
    style = (root / "report" / "templates" / "style.css").read_text(encoding="utf-8")
    for line in re.findall(r"--\w+: #\w{6};", ours):
        assert line in style
    assert len(re.findall(r"--paper: (#\w{6})", ours)) == 2
