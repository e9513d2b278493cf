"""The sprite that slices are cut from, and the page that holds it."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volta3d.report.viewer import Overlay, Picture, sprite, write_viewer

SHAPE = (5, 4, 3)
LEFT, RIGHT = (230, 159, 0), (0, 114, 178)


def volume() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE).astype(np.float32)


def test_each_tile_is_a_sagittal_slice_from_the_right_to_the_left() -> None:
    """Against a loop over voxels: tile t, row from the top, column from the back."""
    given = volume()
    sheet = sprite(given)
    rows = int(np.ceil(np.sqrt(SHAPE[0])))
    columns = -(-SHAPE[0] // rows)
    assert sheet.shape == (rows * SHAPE[2], columns * SHAPE[1])
    for tile in range(SHAPE[0]):
        for y in range(SHAPE[1]):
            for z in range(SHAPE[2]):
                row = (tile // columns) * SHAPE[2] + SHAPE[2] - 1 - z
                column = (tile % columns) * SHAPE[1] + y
                assert sheet[row, column] == given[SHAPE[0] - 1 - tile, y, z]
    assert sheet[-SHAPE[2] :, -SHAPE[1] :].sum() == 0  # six tiles for five slices


def test_colours_keep_their_channel() -> None:
    given = np.stack([volume()] * 4, axis=-1)
    np.testing.assert_array_equal(sprite(given)[..., 2], sprite(given[..., 2]))


def pictures(path: Path) -> list[np.ndarray]:
    found = re.findall(r'data-src="data:image/png;base64,([^"]+)"', path.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_the_page_holds_every_picture_and_the_labels_that_are_there(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2, 1] = 1
    names = {1: ("left <b>", LEFT), 2: ("right", RIGHT)}
    path = tmp_path / "viewer" / "scan.html"
    write_viewer(path, "A <i>scan", [Picture("Scan", volume())], [Overlay("Truth", labels, names)])
    grey, coloured = pictures(path)
    assert grey.ndim == 2 and grey.max() == 255
    assert coloured.shape[-1] == 4
    assert [tuple(c) for c in coloured[coloured[..., 3] > 0]] == [(*LEFT, 255)]
    text = path.read_text()
    assert "left &lt;b&gt;" in text and "A &lt;i&gt;scan" in text
    assert ">right<" not in text  # a label that is nowhere has no place in the legend
    # the tile of x = 1, counted from the patient's right; y and z as they are
    assert re.search(r'id="X"[^>]*value="3"', text) and re.search(r'id="Y"[^>]*value="2"', text)
    assert "://" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_heat_shows_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    heat = np.zeros(SHAPE)
    heat[0, 0, 0], heat[1, 1, 1] = 0.5, np.nan
    write_viewer(tmp_path / "a.html", "a", [Picture("Scan", volume())], [Overlay("Error", heat)])
    assert (pictures(tmp_path / "a.html")[1][..., 3] > 0).sum() == 1


def test_a_large_volume_is_thinned_and_says_so(tmp_path: Path) -> None:
    large = np.zeros((130, 4, 4), np.float32)
    large[60:] = 1
    write_viewer(tmp_path / "a.html", "a", [Picture("Scan", large)])
    assert "Every 2th voxel" in (tmp_path / "a.html").read_text()
    assert pictures(tmp_path / "a.html")[0].size < 130 * 4


def test_volumes_on_different_grids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not on one grid"):
        pair = [Picture("Scan", volume()), Picture("Other", volume()[1:])]
        write_viewer(tmp_path / "a.html", "a", pair)
    assert not (tmp_path / "a.html").exists()


def test_no_package_of_others_draws_the_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The viewer needs nothing that the core doesn't install."""
    monkeypatch.setitem(sys.modules, "nilearn", None)
    write_viewer(tmp_path / "scan.html", "Scan", [Picture("Scan", volume())])
    assert (tmp_path / "scan.html").is_file()
