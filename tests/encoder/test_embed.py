"""Features of cohorts and of raw scans: complete, traceable, whole on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from volta3d.cohort.participants import COLUMNS
from volta3d.cohort.store import Cohort
from volta3d.encoder.embed import embed, features_of, read_features
from volta3d.encoder.load import load_encoder, random_encoder
from volta3d.errors import EncoderError, UsageError, VoltaError


def head(path: Path, seed: int = 0) -> Path:
    """A bright ball with texture in air, 6 mm voxels, stored left-posterior-superior."""
    rng = np.random.default_rng(seed)
    grid = np.indices((24, 26, 22)) - np.array([12, 13, 11])[:, None, None, None]
    ball = ((grid / 9) ** 2).sum(0) < 1
    data = (ball * (100 + 40 * rng.random((24, 26, 22)))).astype(np.int16)
    affine = np.diag([-6.0, -6.0, 6.0, 1.0])
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def test_cohort_to_table(encoder_folder: Path, cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    steps: list[tuple[int, int]] = []
    table = embed(
        encoder_folder,
        cohort.path,
        out,
        batch_size=4,
        device="cpu",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert table["scan_id"].tolist() == cohort.scan_ids
    features = [f"{kind}_{i:03d}" for kind in ("token", "mean") for i in range(16)]
    assert table.columns.tolist() == [*COLUMNS, *features]
    expected = load_encoder(encoder_folder).features(cohort.load())
    # other batches, so sums in another order
    for kind in ("token", "mean"):
        np.testing.assert_allclose(
            features_of(table, kind), expected[kind].numpy(), rtol=1e-5, atol=1e-6
        )
    assert steps == [(4, 6), (6, 6)]
    assert table["age"].iloc[0] == 30
    assert math.isnan(table["age"].iloc[5])
    back = read_features(out)
    # pandas reads text back as its own string type
    pd.testing.assert_frame_equal(back.astype(table.dtypes.to_dict()), table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cohort", "encoder", "features.parquet"]


def test_L12_table_says_where_it_comes_from(
    encoder_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    embed(encoder_folder, cohort.path, out)
    stated = json.loads(pq.read_metadata(out).metadata[b"volta3d"])
    config = json.loads((encoder_folder / "config.json").read_text())
    assert stated["encoder_sha256"] == config["weights_sha256"]
    assert stated["contract_hash"] == cohort.contract.hash()
    assert stated["cohort_hashes"] == [cohort.hash()]
    assert stated["synthetic"] is True
    assert stated["untrained"] is False
    fresh = embed(random_encoder(load_encoder(encoder_folder), seed=1), cohort.path)
    assert fresh.attrs["volta3d"]["untrained"] is True
    assert fresh.attrs["volta3d"]["encoder_sha256"] == ""


def test_batch_size_changes_nothing(encoder_folder: Path, cohort: Cohort) -> None:
    one, all_ = (embed(encoder_folder, cohort.path, batch_size=size) for size in (1, 6))
    for kind in ("token", "mean"):
        np.testing.assert_allclose(
            features_of(one, kind), features_of(all_, kind), rtol=1e-5, atol=1e-6
        )


def test_raw_scans_are_prepared_on_the_way(encoder_folder: Path, tmp_path: Path) -> None:
    from volta3d.prepare.volume import prepare_scan

    scans = [head(tmp_path / f"scan{i}.nii.gz", seed=i) for i in range(2)]
    table = embed(encoder_folder, scans)
    loaded = load_encoder(encoder_folder)
    volume = torch.from_numpy(prepare_scan(scans[1], loaded.contract).volume)[None, None]
    expected = loaded.features(volume)["mean"].numpy()
    # volumes are rounded to 1/65535 as in a cohort
    np.testing.assert_allclose(features_of(table, "mean")[1:], expected, rtol=1e-3, atol=1e-4)
    assert len(set(table["scan_id"])) == 2
    assert (table["foreground_mm3"] > 0).all()
    assert table["source_sha256"].str.len().tolist() == [64, 64]
    assert table.attrs["refused"] == []


def test_one_broken_scan_does_not_end_the_batch(encoder_folder: Path, tmp_path: Path) -> None:
    whole = head(tmp_path / "whole.nii.gz")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(whole.read_bytes()[:200])
    table = embed(encoder_folder, [broken, whole])
    assert len(table) == 1
    (refused,) = table.attrs["refused"]
    assert refused["code"] == "truncated"
    assert refused["source"].endswith("broken.nii.gz")
    assert refused["how_to_fix"]
    with pytest.raises(VoltaError, match="None of the 1 scans"):
        embed(encoder_folder, broken, tmp_path / "f.parquet")
    assert not (tmp_path / "f.parquet").exists()


def test_a_folder_and_a_cohort_together(
    encoder_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    head(tmp_path / "scans" / "a.nii.gz")
    table = embed(encoder_folder, [cohort.path, tmp_path / "scans"])
    assert len(table) == 7
    assert table.attrs["volta3d"]["cohort_hashes"] == [cohort.hash()]


def test_bad_input_is_refused(encoder_folder: Path, cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same id"):
        embed(encoder_folder, [cohort.path, cohort.path])
    with pytest.raises(UsageError, match="batch size"):
        embed(encoder_folder, cohort.path, batch_size=0)
    with pytest.raises(UsageError, match="parquet"):
        embed(encoder_folder, cohort.path, tmp_path / "features.csv")
    with pytest.raises(UsageError, match="device"):
        embed(encoder_folder, cohort.path, device="tpu")
    with pytest.raises(UsageError, match="Nothing to embed"):
        embed(encoder_folder, [])
    with pytest.raises(VoltaError, match="No such file"):
        embed(encoder_folder, tmp_path / "nowhere")
    with pytest.raises(EncoderError, match="No encoder there"):
        embed(tmp_path / "nowhere", cohort.path)


def test_a_cohort_of_another_preparation_is_refused(
    encoder_folder: Path, cohort: Cohort, tmp_path: Path
) -> None:
    from volta3d.cohort.store import write_cohort

    other = cohort.contract.model_copy(update={"fit": "pad"})
    volumes = (cohort.volume(i) for i in range(6))
    write_cohort(tmp_path / "other", other, volumes, cohort.participants)
    with pytest.raises(EncoderError, match="fit: resize -> pad"):
        embed(encoder_folder, tmp_path / "other")


def test_other_files_are_no_features(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "plain.parquet")
    (tmp_path / "text.parquet").write_text("no")
    for name in ("plain.parquet", "text.parquet", "none.parquet"):
        with pytest.raises(VoltaError, match="Not a table that volta3d embed wrote"):
            read_features(tmp_path / name)
    with pytest.raises(VoltaError, match="token_000"):
        features_of(pd.DataFrame({"token_count": [1]}), "token")
