"""The scikit-learn transformer."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.image import new_img_like
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneOut, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import volta3d
from volta3d.cohort.store import Cohort
from volta3d.encoder.embed import embed, features_of
from volta3d.encoder.embedder import Embedder
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


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"no scan")
    return path


@pytest.mark.parametrize("kind", ["token", "concat", "regions"])
def test_with_every_scan_refused_the_width_is_known(
    encoder_folder: Path, broken: Path, kind: Any
) -> None:
    embedder = Embedder(encoder_folder, features=kind, refused="nan").fit([])
    told = embedder.transform([broken, broken])
    assert told.shape == (2, len(embedder.get_feature_names_out())) and np.isnan(told).all()
    assert told.dtype == np.float32


def test_leave_one_out_goes_through_a_refused_scan(
    encoder_folder: Path, files: list[Path], broken: Path
) -> None:
    scans = [*files[:5], broken]
    embedder = Embedder(encoder_folder, refused="nan")
    model = make_pipeline(embedder, SimpleImputer(), StandardScaler(), LogisticRegression())
    told = cross_val_predict(model, scans, [0, 1] * 3, cv=LeaveOneOut())
    before = embedder.fit_transform(scans)
    assert np.array_equal(told, cross_val_predict(model[1:], before, [0, 1] * 3, cv=LeaveOneOut()))


def test_whatever_a_sample_lacks_it_raises_or_is_a_row_of_nan(
    encoder_folder: Path, files: list[Path], cohort: Cohort, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no scan")
    cube = cohort.volume(0).copy()
    cube[3, 4, 5] = np.inf
    bad = [tmp_path / "empty", str(tmp_path / "notes.txt"), cube, None, "", float("nan"), pd.NA]
    words = ["No scans found", "No scans found", "NaN or infinity", *["missing value"] * 4]
    for sample, word in zip(bad, words, strict=True):
        with pytest.raises(VoltaError, match=word):
            Embedder(encoder_folder).fit_transform([files[0], sample])
    told = Embedder(encoder_folder, refused="nan").fit_transform([*bad, files[0]])
    assert np.isnan(told[:-1]).all() and np.isfinite(told[-1]).all()


def test_one_column_is_a_list_of_scans(
    encoder_folder: Path, files: list[Path], cohort: Cohort
) -> None:
    embedder = Embedder(encoder_folder, refused="nan").fit([])
    names = [str(f) for f in files[:3]]
    wanted = embedder.transform(names)
    table = pd.DataFrame({"path": names, "age": [1.0, 2, 3], "sex": ["F", "M", "F"]})
    columns: list[Any] = [
        table["path"], table[["path"]], table[["path"]].to_numpy(), np.array(names),
        np.array(files[:3], object)[:, None], [[n] for n in names], [(f,) for f in files[:3]],
    ]  # fmt: skip
    for column in columns:
        assert np.array_equal(embedder.transform(column), wanted)
    gap = np.array([[names[0]], [np.nan], [None]], object)
    for column in (gap, pd.DataFrame(gap)):
        assert np.isnan(embedder.transform(column)[:, 0]).tolist() == [False, True, True]
    images = [[nib.load(files[0])], [nib.load(files[1])]]
    assert np.allclose(embedder.transform(images), wanted[:2], atol=1e-5)
    for several in (table, table[["path", "sex"]].to_numpy(), [[names[0], names[1]]]):
        with pytest.raises(UsageError, match=r"one column of scans, not [23]"):
            embedder.transform(several)
    with pytest.raises(UsageError, match="Neither a path, an image nor"):
        embedder.transform([{"path": names[0]}])
    assert np.isfinite(embedder.transform([cohort.volume(0).tolist()])).all()  # a cube in lists


def test_a_column_transformer_mixes_scans_with_numbers(
    encoder_folder: Path, files: list[Path]
) -> None:
    table = pd.DataFrame({"path": [str(f) for f in files], "age": np.arange(8.0)})
    wanted = Embedder(encoder_folder).fit_transform(files)
    for column in (["path"], "path"):
        mixed = ColumnTransformer(
            [("scan", Embedder(encoder_folder), column), ("age", StandardScaler(), ["age"])]
        )
        assert np.allclose(mixed.fit_transform(table)[:, :-1], wanted)
        assert mixed.get_feature_names_out()[0] == "scan__token_000"
    model = make_pipeline(mixed, LogisticRegression())
    assert cross_val_score(model, table, [0, 1] * 4, cv=2).shape == (2,)


def test_it_is_pickled_with_its_weights(encoder_folder: Path, files: list[Path]) -> None:
    embedder = Embedder(encoder_folder).fit([])
    twin = pickle.loads(pickle.dumps(embedder))
    (encoder_folder / "config.json").unlink()  # no longer needed
    assert np.array_equal(twin.transform(files[:2]), embedder.transform(files[:2]))


def test_its_output_is_a_table_on_demand(
    encoder_folder: Path, files: list[Path], broken: Path
) -> None:
    embedder = Embedder(encoder_folder, refused="nan").set_output(transform="pandas")
    given = pd.DataFrame({"path": [files[0], broken]}, index=["a", "b"])
    told = embedder.fit_transform(given)
    assert list(told.columns) == list(embedder.get_feature_names_out())
    assert list(told.index) == ["a", "b"] and told.isna().all(axis=1).tolist() == [False, True]


def test_its_options_are_searched(encoder_folder: Path, files: list[Path]) -> None:
    model = make_pipeline(Embedder(encoder_folder), StandardScaler(), LogisticRegression())
    search = GridSearchCV(model, {"embedder__features": ["token", "mean"]}, cv=2)
    search.fit(files, [0, 1] * 4)
    assert search.best_params_["embedder__features"] in ("token", "mean")
    assert len(search.predict(files)) == 8
    for kind, score in zip(("token", "mean"), search.cv_results_["mean_test_score"], strict=True):
        alone = cross_val_score(model.set_params(embedder__features=kind), files, [0, 1] * 4, cv=2)
        assert score == alone.mean()


def test_a_dicom_folder_is_a_sample(
    encoder_folder: Path, tmp_path: Path, dicom: ModuleType
) -> None:
    embedder = Embedder(encoder_folder).fit([])
    folder = dicom.write(tmp_path / "p1" / "DICOM", dicom.slices())
    alone = embedder.transform([folder])
    assert alone.shape == (1, 16) and np.isfinite(alone).all()
    # what cannot be meant lies beside the scan on most disks
    for uid, words in ((2, "AAHead_Scout"), (3, "t2_flair_sag")):
        dicom.write(folder, dicom.slices(uid=uid, SeriesDescription=words))
    assert np.array_equal(embedder.transform([str(folder)]), alone)


def test_several_scans_in_one_place_are_no_sample(
    encoder_folder: Path, files: list[Path], broken: Path, tmp_path: Path, dicom: ModuleType
) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for file in (files[0], broken):
        (half / file.name).write_bytes(file.read_bytes())
    gap = tmp_path / "gap"  # one series is whole, another lacks slices
    dicom.write(gap, dicom.slices(uid=1))
    dicom.write(gap, [s for n, s in enumerate(dicom.slices(uid=2)) if n not in (7, 8)])
    for folder in (files[0].parent, half, gap):
        with pytest.raises(UsageError, match=r"[28] scans in one place.*Name the file"):
            Embedder(encoder_folder).fit_transform([folder])
    told = Embedder(encoder_folder, refused="nan").fit_transform([half, gap, files[0]])
    assert np.isnan(told).all(axis=1).tolist() == [True, True, False]


def test_the_reason_given_is_that_of_the_scan(
    encoder_folder: Path, tmp_path: Path, dicom: ModuleType
) -> None:
    flat = np.zeros(dicom.SHAPE, np.int16)
    dicom.write(tmp_path / "in", dicom.slices(uid=1, SeriesDescription="AAHead_Scout"))
    with pytest.raises(VoltaError, match="A localiser"):
        Embedder(encoder_folder).fit_transform([tmp_path / "in"])
    dicom.write(tmp_path / "in", dicom.slices(flat, uid=2))
    with pytest.raises(VoltaError) as caught:
        Embedder(encoder_folder).fit_transform([tmp_path / "in"])
    assert "localiser" not in caught.value.what


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
