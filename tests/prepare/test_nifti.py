"""Reading NIfTI: every line of section N ends accepted, fixed with a finding, or refused."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volta3d.prepare import checks
from volta3d.prepare import voxels as reader
from volta3d.prepare.findings import Refused
from volta3d.prepare.nifti import read_nifti
from volta3d.prepare.voxels import Image

Make = Callable[..., Path]


def codes(image: Image) -> list[str]:
    return [f.code for f in image.findings]


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as caught:
        read_nifti(path)
    finding = caught.value.finding
    assert finding.level == "error" and finding.what and finding.how_to_fix
    return finding.code


def test_a_sound_file_has_no_findings(tmp_path: Path, nifti: Make, head: tuple) -> None:
    for name in ("a.nii", "a.nii.gz"):
        image = read_nifti(nifti(tmp_path / name, *head))
        assert image.findings == () and image.data.dtype == np.int16
        np.testing.assert_array_equal(image.data, head[0])
        np.testing.assert_array_equal(image.affine, head[1])


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_versions_and_byte_orders(
    tmp_path: Path, head: tuple, kind: type, endian: str
) -> None:
    header = kind.header_class(endianness=endian)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(endian))
    kind(head[0], head[1], header).to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").data, head[0])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64, ">f8"])
def test_narrow_reads_wide_types_as_float32_block_by_block(
    tmp_path: Path, nifti: Make, monkeypatch: pytest.MonkeyPatch, dtype: str, name: str
) -> None:
    monkeypatch.setattr(reader, "BLOCK", 100)
    data = (np.arange(7 * 8 * 9).reshape(7, 8, 9) * 1.5).astype(dtype)
    path = nifti(tmp_path / name, data, np.eye(4))
    wide, narrow = read_nifti(path), read_nifti(path, narrow=True)
    assert narrow.data.dtype == (np.int16 if dtype is np.int16 else np.float32)
    np.testing.assert_array_equal(narrow.data, wide.data)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Refused, match="truncated"):
        read_nifti(path, narrow=True)


def test_many_gzip_members_are_one_stream(tmp_path: Path, nifti: Make, head: tuple) -> None:
    raw = nifti(tmp_path / "a.nii", *head).read_bytes()
    parts = [gzip.compress(raw[:1000]), gzip.compress(raw[1000:])]
    (tmp_path / "b.nii.gz").write_bytes(b"".join(parts))
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").data, head[0])


def test_slope_and_intercept(tmp_path: Path, nifti: Make, head: tuple) -> None:
    image = read_nifti(nifti(tmp_path / "a.nii", *head, scl_slope=0.5, scl_inter=-3))
    np.testing.assert_allclose(image.data, head[0] * 0.5 - 3)
    assert image.findings == ()


def test_N1_N2_N5_empty_header_only_and_short_files(tmp_path: Path, nifti: Make) -> None:
    whole = nifti(tmp_path / "a.nii").read_bytes()
    for keep, code in (
        (0, "empty-file"),
        (100, "truncated"),
        (352, "truncated"),
        (-9, "truncated"),
    ):
        path = tmp_path / "b.nii"
        path.write_bytes(whole[:keep] if keep else b"")
        assert refusal(path) == code


@pytest.mark.parametrize("keep", [2, 12, 200, 0.5, -4, -9])
def test_N3_truncated_gzip(tmp_path: Path, nifti: Make, keep: float) -> None:
    path = nifti(tmp_path / "a.nii.gz")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    assert refusal(path) == "truncated"


def test_N4_checksum_error(tmp_path: Path, nifti: Make) -> None:
    path = nifti(tmp_path / "a.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1  # the checksum's last byte but one
    path.write_bytes(bytes(raw))
    assert refusal(path) == "crc"


def test_N6_bad_magic_and_half_a_pair(tmp_path: Path, nifti: Make) -> None:
    assert refusal(nifti(tmp_path / "a.nii", magic=b"n+9")) == "bad-magic"
    assert refusal(nifti(tmp_path / "a.nii", magic=b"ni1")) == "pair"
    (tmp_path / "b.nii").write_text("<html>not found</html>" * 50)
    assert refusal(tmp_path / "b.nii") == "bad-magic"


@pytest.mark.parametrize(
    "dims", [[3, 0, 8, 8], [3, 8, -5, 8], [0, 8, 8, 8], [9, 8, 8, 8], [-3, 8, 8, 8]]
)
def test_N7_zero_and_negative_dims(tmp_path: Path, nifti: Make, dims: list[int]) -> None:
    path = nifti(tmp_path / "a.nii", dim=dims + [1] * (8 - len(dims)))
    assert refusal(path) == "bad-dims"


def test_N8_S5_a_header_that_claims_a_huge_volume_allocates_nothing(
    tmp_path: Path, nifti: Make
) -> None:
    huge = [3, 32767, 32767, 32767, 1, 1, 1, 1]
    path = nifti(tmp_path / "a.nii.gz", dim=huge, datatype=64, bitpix=64)
    tracemalloc.start()
    code = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code == "too-large" and peak < 8e6  # two read buffers of 1 MiB and change


def test_N9_a_size_the_compressed_bytes_cannot_hold(tmp_path: Path, nifti: Make) -> None:
    dims = [3, 600, 600, 600, 1, 1, 1, 1]  # allowed in itself
    tracemalloc.start()
    code = refusal(nifti(tmp_path / "a.nii.gz", dim=dims))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code == "truncated" and peak < 8e6


def test_N10_S7_gzip_bomb_is_read_no_further_than_its_header_promises(
    tmp_path: Path, nifti: Make
) -> None:
    plain = nifti(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(plain)
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    assert refusal(path) == "trailing-data"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # the bomb is 64 MiB


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 3), (64,)])
def test_N11_two_dimensions(tmp_path: Path, nifti: Make, shape: tuple[int, ...]) -> None:
    assert refusal(nifti(tmp_path / "a.nii", np.ones(shape, np.int16), np.eye(4))) == "not-3d"


def test_N12_five_dimensions(tmp_path: Path, nifti: Make) -> None:
    data = np.ones((5, 5, 5, 1, 3), np.float32)
    assert refusal(nifti(tmp_path / "a.nii", data, np.eye(4))) == "five-d"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (128, "rgb"),
        (2304, "rgb"),
        (32, "complex"),
        (1792, "complex"),
        (1, "bad-type"),
        (7, "bad-type"),
    ],
)
def test_N13_N14_colour_and_complex(tmp_path: Path, nifti: Make, code: int, says: str) -> None:
    assert refusal(nifti(tmp_path / "a.nii", datatype=code)) == says


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan] * 4, [np.inf, 0, 0, 0], [1e30, 0, 0, 0]])
def test_N15_singular_and_not_finite_affine(tmp_path: Path, nifti: Make, row: list[float]) -> None:
    assert refusal(nifti(tmp_path / "a.nii", srow_x=row)) == "bad-affine"


def test_N15_axes_in_one_plane(tmp_path: Path, nifti: Make) -> None:
    path = nifti(tmp_path / "a.nii", srow_x=[1, 1, 0, 0], srow_y=[0, 0, 1, 0], srow_z=[0, 0, 1, 0])
    assert refusal(path) == "bad-affine"


def test_N16_left_and_right_are_never_guessed(tmp_path: Path, nifti: Make) -> None:
    assert refusal(nifti(tmp_path / "a.nii", sform_code=0, qform_code=0)) == "no-orientation"


def test_N17_misnamed_compression(tmp_path: Path, nifti: Make, head: tuple) -> None:
    nifti(tmp_path / "a.nii", *head).rename(tmp_path / "b.nii.gz")
    nifti(tmp_path / "c.nii.gz", *head).rename(tmp_path / "d.nii")
    for name in ("b.nii.gz", "d.nii"):
        image = read_nifti(tmp_path / name)
        assert codes(image) == ["misnamed"]
        np.testing.assert_array_equal(image.data, head[0])


def test_N18_a_fourth_axis_of_one_is_dropped(tmp_path: Path, nifti: Make, head: tuple) -> None:
    image = read_nifti(nifti(tmp_path / "a.nii", head[0][..., None], head[1]))
    assert image.data.ndim == 3 and codes(image) == ["squeezed"]


def both(nifti: Make, path: Path, shift: float, **fields: object) -> Path:
    """sform and qform set, the qform ``shift`` mm to the right."""
    quaternion = {
        "quatern_b": 0,
        "quatern_c": 0,
        "quatern_d": 0,
        "qoffset_y": -64,
        "qoffset_z": -88,
    }
    given = {"qform_code": 1, "qoffset_x": -76 + shift, **quaternion, **fields}
    return nifti(path, **given)


def test_N19_sform_before_qform(tmp_path: Path, nifti: Make, head: tuple) -> None:
    assert codes(read_nifti(both(nifti, tmp_path / "a.nii", shift=0.01))) == []
    image = read_nifti(both(nifti, tmp_path / "a.nii", shift=5))
    assert codes(image) == ["sform-qform-differ"]
    np.testing.assert_array_equal(image.affine, head[1])
    image = read_nifti(both(nifti, tmp_path / "a.nii", shift=5, sform_code=0))
    assert codes(image) == [] and image.affine[0, 3] == -71
    image = read_nifti(both(nifti, tmp_path / "a.nii", shift=5, srow_x=[0, 0, 0, 0]))
    assert codes(image) == ["bad-sform"] and image.affine[0, 3] == -71


def test_qform_equals_nibabel_s(tmp_path: Path, nifti: Make) -> None:
    rng = np.random.default_rng(1)
    for k in range(20):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # rotations and reflections
        affine = np.eye(4)
        affine[:3, :3] = q * rng.uniform(0.5, 3, 3)
        affine[:3, 3] = rng.uniform(-90, 90, 3)
        image = nib.Nifti1Image(np.ones((4, 5, 6), np.int16), affine)
        image.set_qform(affine, 1)
        image.set_sform(None, 0)
        image.to_filename(tmp_path / f"{k}.nii")
        # float32 in the header
        np.testing.assert_allclose(read_nifti(tmp_path / f"{k}.nii").affine, affine, atol=1e-4)


def test_N20_a_slightly_invalid_quaternion(tmp_path: Path, nifti: Make, head: tuple) -> None:
    image = read_nifti(both(nifti, tmp_path / "a.nii", 0, quatern_b=0.8, quatern_c=0.8))
    assert codes(image) == ["bad-qform"]
    np.testing.assert_array_equal(image.affine, head[1])
    barely = both(nifti, tmp_path / "a.nii", 0, quatern_b=1.0005, sform_code=0)
    assert np.isfinite(read_nifti(barely).affine).all()


def test_N21_shear(tmp_path: Path, nifti: Make) -> None:
    image = read_nifti(nifti(tmp_path / "a.nii", srow_x=[2.5, 0.5, 0, -76]))
    assert codes(image) == ["shear"] and image.affine[0, 1] == 0.5


@pytest.mark.parametrize(
    ("slope", "intercept", "found"),
    [
        (np.inf, 0, ["bad-scl-slope"]),
        (np.nan, 5, ["bad-scl-slope"]),
        (2, np.nan, ["bad-scl-slope"]),
        (np.nan, np.nan, []),
        (0, 7, []),
    ],
)
def test_N22_bad_slope(
    tmp_path: Path, nifti: Make, head: tuple, slope: float, intercept: float, found: list[str]
) -> None:
    image = read_nifti(nifti(tmp_path / "a.nii", *head, scl_slope=slope, scl_inter=intercept))
    assert codes(image) == found
    np.testing.assert_array_equal(image.data, head[0])


def test_N24_wrong_units(tmp_path: Path, nifti: Make, head: tuple) -> None:
    image = read_nifti(nifti(tmp_path / "a.nii", xyzt_units=1))  # says metres, means mm
    assert codes(image) == ["wrong-units"]
    np.testing.assert_array_equal(image.affine, head[1])
    small = {
        k: np.array(v) / 1000 for k, v in zip(("srow_x", "srow_y", "srow_z"), head[1], strict=False)
    }
    image = read_nifti(nifti(tmp_path / "a.nii", xyzt_units=1, **small))  # metres indeed
    assert codes(image) == ["converted-units"]
    np.testing.assert_allclose(image.affine, head[1], rtol=1e-6)


def test_N26_a_series_is_not_chosen_from(tmp_path: Path, nifti: Make) -> None:
    data = np.ones((8, 8, 8, 5), np.int16)
    assert refusal(nifti(tmp_path / "a.nii", data, np.eye(4))) == "series"


@pytest.mark.parametrize("offset", [100, np.nan, -352, 1e9])
def test_impossible_data_offset(tmp_path: Path, nifti: Make, offset: float) -> None:
    assert refusal(nifti(tmp_path / "a.nii", vox_offset=offset)) == "bad-offset"


def test_the_voxel_limit_bounds_memory() -> None:
    # float64 on disk and float32 in memory, per scan
    assert checks.MAX_VOXELS * (8 + 4) < 4 * 2**30
    assert reader.TRAILING_LIMIT <= 2**20


def test_S18_mutants_give_only_typed_refusals(tmp_path: Path, nifti: Make) -> None:
    """10,000 files with bytes changed, mostly in the header: refused or read, nothing else."""
    data, affine = np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.diag([8.0, 8, 8, 1])
    whole = nifti(tmp_path / "a.nii", data, affine).read_bytes()
    packed = gzip.compress(whole, 1)
    rng, path = np.random.default_rng(7), tmp_path / "m.nii"
    read = 0
    for k in range(10_000):
        raw = bytearray(packed if k % 4 == 3 else whole)
        for at in rng.integers(0, len(raw) if k % 4 > 1 else 348, rng.integers(1, 6)):
            raw[at] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        if k % 10 == 9:
            raw = raw[: rng.integers(len(raw))]
        path.write_bytes(bytes(raw))
        try:
            image = read_nifti(path)
        except Refused as error:
            assert error.finding.how_to_fix
        else:
            assert image.data.ndim == 3 and np.isfinite(image.affine).all()
            read += 1
    assert 1000 < read < 9000  # the mutants are neither all harmless nor all fatal


def test_a_stream_that_ends_early_is_not_waited_for() -> None:
    header = reader.Header((4, 4, 4), np.eye(4), np.dtype("u1"), 352, 1.0, 0.0, ())
    with pytest.raises(Refused, match="64 bytes of voxels missing"):
        reader._read_voxels(io.BytesIO(b"x" * 352), header)
