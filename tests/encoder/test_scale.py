"""Scale: recorded, worked out or unknown; scans are brought to it, and tiles keep their places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, centred_affine, write_cohort
from volta3d.config import PretrainConfig, build
from volta3d.encoder.embed import embed, features_of
from volta3d.encoder.load import load_encoder, random_encoder
from volta3d.encoder.loaded import LoadedEncoder, regions
from volta3d.encoder.matching import reading_of
from volta3d.encoder.scale import Scale, scale_of, share_of, voxel_mm
from volta3d.encoder.tiles import cut, join
from volta3d.errors import EncoderError
from volta3d.model.pair import build_pair
from volta3d.pretrain.encoder import save_encoder

SIZE = 16


@pytest.fixture
def halves(tmp_path: Path, config: PretrainConfig) -> Path:
    """An encoder whose views of 8 voxels were about half of a cube of 16 at a true 8 mm."""
    views = {**config.views.content(), "downsample": 1, "global_scale": (0.45, 0.55)}
    halved = build(PretrainConfig, {**config.content(), "views": views})
    network = build_pair(halved.model, 8, 3).teacher
    contract = Contract(size=SIZE, spacing=8.0, fit="pad")
    save_encoder(
        tmp_path / "halves", network=network, config=halved, contract=contract, card_facts={}
    )
    return tmp_path / "halves"


def blobs(size: int, mm: float, n: int = 3) -> np.ndarray:
    """[n, size³], one smooth thing in the world, sampled on a grid of ``mm``."""
    places = (np.arange(size) - (size - 1) / 2) * mm
    x, y, z = np.meshgrid(places, places, places, indexing="ij")
    scans = [
        np.exp(-(((x - 9 * i) / 25) ** 2) - ((y + 12) / 30) ** 2 - ((z - 5 * i) / 20) ** 2)
        for i in range(n)
    ]
    return np.stack(scans).astype(np.float32)


def make(folder: Path, size: int, mm: float, **contract: Any) -> Cohort:
    affines = np.repeat(centred_affine(mm, size)[None], 3, axis=0)
    table = pd.DataFrame({"scan_id": [f"s{i}" for i in range(3)]})
    signed = Contract(size=size, **{"spacing": mm, "fit": "pad", **contract})
    return write_cohort(folder, signed, blobs(size, mm), table, affines)


def by_hand(loaded: LoadedEncoder, volume: Tensor) -> Tensor:
    """Tokens [12, 12, ... , W] of one cube [D, D, D], tile by tile and token by token."""
    edge, n = loaded.image_size, volume.shape[0] // loaded.image_size
    g = edge // loaded.encoder.patch_size
    grid = torch.zeros(n * g, n * g, n * g, loaded.width)
    for i in range(n):
        for j in range(n):
            for k in range(n):
                tile = volume[
                    i * edge : (i + 1) * edge, j * edge : (j + 1) * edge, k * edge : (k + 1) * edge
                ]
                with torch.no_grad():
                    tokens = loaded.encoder(tile[None, None])[0]
                for t in range(g**3):
                    a, b, c = t // g**2, t // g % g, t % g
                    grid[i * g + a, j * g + b, k * g + c] = tokens[t]
    return grid


def test_scale_is_recorded_or_worked_out_or_unknown(halves: Path) -> None:
    loaded = load_encoder(halves)
    # views of half of 16 voxels of 8 mm on 8 voxels: 8 mm; patches of 4
    assert loaded.scale == Scale(8.0, 32.0, 64.0, 0)
    content, contract = loaded.config, loaded.contract
    views = {**content["pretraining"]["views"], "spacing_mm": [7.0, 9.0], "global_scale": None}
    in_mm = {**content, "pretraining": {"views": views}}
    assert (share_of(in_mm).mean, share_of(in_mm).high) == (None, 9 / 8)
    resized = contract.model_copy(update={"fit": "resize"})
    assert scale_of(content, resized, 8, 4) is None
    stated = {"voxel_mm": 2.0, "token_mm": 8.0, "view_edge_mm": 16.0, "measured_on": 9}
    assert scale_of({**content, "scale": stated}, resized, 8, 4) == Scale(2.0, 8.0, 16.0, 9)
    for damage in ({"voxel_mm": 2}, {**stated, "voxel_mm": -1}, {**stated, "token_mm": "x"}, [1]):
        with pytest.raises(EncoderError, match=r"'scale' in config\.json is damaged"):
            scale_of({**content, "scale": damage}, contract, 8, 4)


def test_voxel_mm_of_a_rotated_affine() -> None:
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * 1.75
    assert voxel_mm(affine) == pytest.approx(1.75)


def test_tiles_are_cut_and_joined_in_their_places() -> None:
    cubes = torch.arange(2 * 6**3, dtype=torch.float32).reshape(2, 1, 6, 6, 6)
    tiles = cut(cubes, 2, 3)
    assert tiles.shape == (54, 1, 2, 2, 2)
    assert torch.equal(tiles[27 + 9 + 3 * 2 + 1], cubes[1, :, 2:4, 4:6, 2:4])
    # a token for every voxel: joined they are the cube again
    assert torch.equal(join(tiles.flatten(1)[..., None], 2, 3)[..., 0], cubes.flatten(1))


def test_a_head_larger_than_a_view_is_read_in_tiles(halves: Path, tmp_path: Path) -> None:
    cohort = make(tmp_path / "cohort", SIZE, 8.0)
    loaded = load_encoder(halves)
    reading = reading_of(loaded, cohort)
    assert (reading.tiles, reading.edge) == (2, 16) and reading.voxel_mm == pytest.approx(8)
    table = embed(loaded, cohort.path, kinds=("token", "mean", "regions", "regions216"))
    for row in range(3):
        grid = by_hand(loaded, torch.from_numpy(cohort.volume(row)))
        found = features_of(table, "mean")[row]
        # sums in another order
        np.testing.assert_allclose(found, grid.mean((0, 1, 2)).numpy(), rtol=1e-4, atol=1e-5)
        pooled = regions(grid.reshape(1, -1, loaded.width), 6)[0].numpy()
        found = features_of(table, "regions216")[row]
        np.testing.assert_allclose(found, pooled, rtol=1e-4, atol=1e-5)
    assert features_of(table, "regions").shape == (3, 27 * 16)
    told = table.attrs["volta3d"]["scale"][0]
    assert (told["scans_voxel_mm"], told["read_at_mm"], told["tiles"]) == (8.0, 8.0, 8)
    text = table.attrs["volta3d"]["scale_text"][0]
    assert "voxels of 8.00 mm and tokens of 32.0 mm" in text and "2x2x2 tiles" in text


def test_scans_of_another_grid_are_brought_to_the_scale(halves: Path, tmp_path: Path) -> None:
    loaded = load_encoder(halves)
    same = torch.from_numpy(blobs(SIZE, 8.0))[:, None]
    finer = make(tmp_path / "b", 20, 6.5)
    reading = reading_of(loaded, finer)
    assert reading.tiles == 2 and 7.2 / 1.02 <= reading.voxel_mm <= 8.8 * 1.02
    volumes = torch.from_numpy(np.stack([finer.volume(i) for i in range(3)]))[:, None]
    brought = reading.cubes(volumes)
    # the tiles are filled: stretched by 1.6 %, at most 1 mm at a slope of .043 a mm; and lines
    # between voxels of 6.5 mm leave a curvature of .005 a mm² by at most .026
    assert brought.shape == same.shape
    assert (brought - same).abs().max() < 0.07 < 0.2 < (volumes[..., 2:18, 2:18, 2:18] - same).max()
    assert features_of(embed(loaded, finer.path), "mean").shape == (3, 16)


def test_each_scan_goes_by_its_own_affine(halves: Path, tmp_path: Path) -> None:
    loaded = load_encoder(halves)
    volumes = np.stack([blobs(SIZE, 8.0)[1], blobs(SIZE, 9.5)[1], blobs(SIZE, 8.0)[0]])
    affines = np.stack([centred_affine(mm, SIZE) for mm in (8.0, 9.5, 8.0)])
    table = pd.DataFrame({"scan_id": ["a", "b", "c"]})
    contract = Contract(size=SIZE, spacing=8.0, fit="pad")
    own = write_cohort(tmp_path / "own", contract, volumes, table, affines)
    blind = write_cohort(tmp_path / "blind", contract, volumes, table)
    right = features_of(embed(loaded, own.path), "mean")
    wrong = features_of(embed(loaded, blind.path), "mean")
    assert np.array_equal(right[0], wrong[0])
    assert np.linalg.norm(right[1] - right[0]) < 0.5 * np.linalg.norm(wrong[1] - right[0])


def test_another_scale_is_refused_unless_told(halves: Path, tmp_path: Path) -> None:
    far = make(tmp_path / "far", 32, 4.0)
    with pytest.raises(EncoderError, match=r"voxels of 4\.00 mm.*8\.00 mm.*16\.0 mm instead of 32"):
        embed(halves, far.path)
    table = embed(halves, far.path, mismatch="ok")
    told = table.attrs["volta3d"]["scale"][0]
    assert (told["scans_voxel_mm"], told["read_at_mm"], told["tiles"]) == (4.0, 8.0, 8)
    near = features_of(embed(halves, make(tmp_path / "near", SIZE, 8.0).path), "mean")
    spread = np.linalg.norm(near[0] - near[1])
    assert np.linalg.norm(features_of(table, "mean") - near, axis=1).max() < 0.35 * spread
    other = make(tmp_path / "other", SIZE, 8.0, percentiles=(1.0, 99.0))
    with pytest.raises(EncoderError, match="percentiles"):
        embed(halves, other.path, mismatch="ok")


def test_what_lies_beyond_the_cube_is_zero(halves: Path, tmp_path: Path) -> None:
    small = make(tmp_path / "small", 12, 8.0)
    reading = reading_of(load_encoder(halves), small)
    cubes = reading.cubes(torch.ones(1, 1, 12, 12, 12))
    assert (reading.tiles, cubes.shape[-1], reading.voxel_mm) == (2, 16, 8.0)
    inside = cubes[0, 0, 3:13, 3:13, 3:13]
    assert torch.allclose(inside, torch.ones(())) and float(cubes[0, 0, 0].abs().max()) == 0


def test_an_encoder_of_unknown_scale_reads_as_it_did(encoder_folder: Path, cohort: Cohort) -> None:
    loaded = load_encoder(encoder_folder)
    assert loaded.scale is None
    reading = reading_of(loaded, cohort)
    assert reading.tiles == 1 and "unknown" in reading.text()
    found = loaded.features(cohort.load([0]))["patches"]
    with torch.no_grad():
        assert torch.equal(found, loaded.encoder(loaded.cube(cohort.load([0]))))
    embed(random_encoder(loaded), cohort.path)
    cohort.contract = loaded.contract.model_copy(update={"spacing": 7.5})
    with pytest.raises(EncoderError, match="spacing"):
        reading_of(loaded, cohort, "ok")


def test_measured_heads_of_a_resizing_contract(encoder_folder: Path, cohort: Cohort) -> None:
    content = json.loads((encoder_folder / "config.json").read_text())
    content["scale"] = {
        "voxel_mm": 13.6, "token_mm": 54.4, "view_edge_mm": 108.8, "measured_on": 12,
    }  # fmt: skip
    (encoder_folder / "config.json").write_text(json.dumps(content))
    loaded = load_encoder(encoder_folder)
    # views of .7 to 1 of a cube: the whole cube is one of them, at 8 mm a prepared voxel
    assert loaded.prepared_mm == pytest.approx(8.0)
    reading = reading_of(loaded, cohort)
    assert reading.tiles == 1 and reading.voxel_mm == pytest.approx(16.0)
    assert "measured on 12 scans" in reading.text()
