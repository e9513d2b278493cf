"""The scikit-learn transformer."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import new_img_like
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import volta3d
from volta3d.cohort.store import Cohort
from volta3d.downstream.embed import embed, features_of
from volta3d.downstream.embedder import Embedder
from volta3d.errors import EncoderError, UsageError, VoltaError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    made = []
    for i in range(8):
        head = np.zeros((20, 20, 20), np.float32)
        head[3:17, 3:17, 3:17] = 0.2 + 0.1 * rng.random((14, 14, 14))
        head[6:12, 6:12, 6:12] += 0.8 * (i % 2)
        made.append(folder / f"scan{i}.nii.gz")
        nib.save(nib.Nifti1Image(head, np.diag([6.0, 6, 6, 1])), made[-1])
    return made


def test_it_is_exported_lazily() -> None:
    assert volta3d.Embedder is Embedder
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = volta3d.Embeder  # type: ignore[attr-defined]


def test_it_gives_what_embed_gives(encoder_folder: Path, files: list[Path]) -> None:
    table = embed(encoder_folder, files)
    for kind in ("token", "mean"):
        told = Embedder(encoder_folder, features=kind).fit_transform([str(f) for f in files])
        assert np.array_equal(told, features_of(table, kind))
    both = Embedder(str(encoder_folder), features="concat").fit(files).transform(files)
    assert both.shape == (8, 32) and both.dtype == np.float32


def test_images_and_arrays_are_the_same_scans(
    encoder_folder: Path, files: list[Path], cohort: Cohort
) -> None:
    embedder = Embedder(encoder_folder).fit([])
    images = [nib.load(f) for f in files[:2]]
    images.append(new_img_like(images[0], images[0].get_fdata()))  # nilearn's
    told = embedder.transform(images)
    # the same voxels; a file holds the affine in fp32 and the grey values as they were saved
    assert np.allclose(told, embedder.transform([files[0], files[1], files[0]]), atol=1e-5)
    cubes = np.stack([cohort.volume(i) for i in range(3)])
    wanted = features_of(embed(encoder_folder, cohort.path), "token")[:3]
    assert np.allclose(embedder.transform(cubes), wanted, atol=1e-5)


def test_F5_a_full_temporary_folder_is_a_clear_error_and_paths_need_none(
    encoder_folder: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, image = Embedder(encoder_folder).fit([]), nib.load(files[0])
    monkeypatch.setattr(tempfile, "tempdir", str(files[0]))  # a file: nothing can be made in it
    with pytest.raises(VoltaError, match=r"temporary file.*image 0.*TMPDIR"):
        embedder.transform([image])
    assert embedder.transform(files[:1]).shape == (1, 16)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.undo()
    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(VoltaError, match="No space left"):
        embedder.transform([image])


def test_it_is_cloned_and_cross_validated_in_a_pipeline(
    encoder_folder: Path, files: list[Path]
) -> None:
    embedder = Embedder(encoder_folder, features="mean", batch_size=3)
    twin = clone(embedder)
    assert twin.get_params() == embedder.get_params() and not hasattr(twin, "loaded_")
    pipeline = make_pipeline(embedder, StandardScaler(), LogisticRegression())
    scores = cross_val_score(pipeline, files, [0, 1] * 4, cv=2)
    before = embedder.fit_transform(files)  # nothing is fitted, so nothing can leak
    assert np.array_equal(scores, cross_val_score(pipeline[1:], before, [0, 1] * 4, cv=2))
    pipeline.fit(files, [0, 1] * 4).set_params(embedder__features="token")
    assert pipeline[0].features == "token"


def test_columns_have_the_names_that_embed_gives_them(encoder_folder: Path) -> None:
    for kind, first, count in (("token", "token_000", 16), ("concat", "token_000", 32)):
        names = Embedder(encoder_folder, features=kind).fit([]).get_feature_names_out()  # type: ignore[arg-type]
        assert names[0] == first and len(names) == count
    names = Embedder(encoder_folder, features="regions").fit([]).get_feature_names_out()
    assert len(names) == 27 * 16


def test_a_scan_that_cannot_be_prepared_raises_or_is_a_row_of_nan(
    encoder_folder: Path, files: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no scan")
    for bad in (broken, tmp_path / "nowhere.nii.gz"):
        with pytest.raises(VoltaError, match=bad.stem.split(".")[0]):
            Embedder(encoder_folder).fit_transform([files[0], bad])
        told = Embedder(encoder_folder, refused="nan").fit_transform([bad, files[0]])
        assert np.isnan(told[0]).all() and np.isfinite(told[1]).all()


@pytest.mark.parametrize(
    ("options", "scans", "error", "words"),
    [
        ({"features": "tokens"}, [], UsageError, "token, mean"),
        ({"batch_size": 0}, [], UsageError, "at least 1"),
        ({}, "scan.nii.gz", UsageError, "a list of scans"),
        ({}, [np.zeros((3, 3, 3))], UsageError, r"16³ voxels, not \(3, 3, 3\)"),
        ({}, [], VoltaError, "no scan to embed"),
    ],
)
def test_misuse_is_one_paragraph(
    encoder_folder: Path, options: dict[str, Any], scans: Any, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        Embedder(encoder_folder, **options).fit_transform(scans)
    with pytest.raises(EncoderError):
        Embedder(encoder_folder / "nowhere").fit([])
