"""The encoder folder: written, read back, used, and refused when anything about it is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.encoder.load import load_encoder, random_encoder
from volta3d.encoder.loaded import regions
from volta3d.encoder.matching import check_contract
from volta3d.errors import EncoderError
from volta3d.model.pair import Pair, build_pair
from volta3d.pretrain.encoder import save_encoder


def edit_config(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    content.update(changes)
    (folder / "config.json").write_text(json.dumps(content))


def reseal(folder: Path) -> None:
    """Make the checksum right again, so that what lies behind it is tested."""
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    edit_config(folder, weights_sha256=digest)


def edit_model(folder: Path, **changes: Any) -> None:
    model = json.loads((folder / "config.json").read_text())["model"]
    edit_config(folder, model={**model, **changes})


def test_O_exact_tree_and_nothing_partial(encoder_folder: Path) -> None:
    found = sorted(p.name for p in encoder_folder.iterdir())
    assert found == ["MODEL_CARD.md", "config.json", "model.safetensors"]
    assert [p.name for p in encoder_folder.parent.iterdir()] == ["encoder"]


def test_weights_come_back_bitwise(encoder_folder: Path, pair: Pair) -> None:
    loaded = load_encoder(encoder_folder)
    for name, part in (("encoder", loaded.encoder), ("summariser", loaded.summariser)):
        wanted = getattr(pair.teacher, name).state_dict()
        assert part.state_dict().keys() == wanted.keys()
        for key, value in part.state_dict().items():
            assert torch.equal(value, wanted[key])
    assert not loaded.encoder.training
    assert len(loaded.report.matched) == len(load_file(encoder_folder / "model.safetensors"))
    assert not any(k.startswith(("cls_head", "patch_head")) for k in loaded.report.matched)


def test_config_says_all_that_is_needed(
    encoder_folder: Path, config: PretrainConfig, contract: Contract
) -> None:
    content = json.loads((encoder_folder / "config.json").read_text())
    assert content["format"] == 1
    assert content["model"] == config.model.content()
    assert (content["image_size"], content["downsample"]) == (8, 2)
    assert content["contract"] == contract.content()
    assert content["preset"] == "tiny"
    assert content["software"].startswith("volta3d ")
    assert content["facts"]["monitors"]["effective_rank"] is None  # JSON has no NaN
    loaded = load_encoder(encoder_folder)
    assert loaded.contract == contract
    assert (loaded.image_size, loaded.downsample, loaded.width) == (8, 2, 16)


def test_features_against_pooling_by_hand(encoder_folder: Path, cohort: Cohort, pair: Pair) -> None:
    volumes = cohort.load([0, 3])
    found = load_encoder(encoder_folder).features(volumes)
    pooled = volumes.reshape(2, 1, 8, 2, 8, 2, 8, 2).mean((3, 5, 7))
    with torch.no_grad():
        patches = pair.teacher.encoder(pooled)
        token = pair.teacher.summariser(patches)
    # the sum over eight voxels may be taken in another order
    torch.testing.assert_close(found["patches"], patches, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["token"], token, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["mean"], patches.mean(1), rtol=1e-5, atol=1e-6)
    assert found["patches"].shape == (2, 8, 16)
    assert not found["token"].requires_grad


def test_whole_cube_fills_the_input_with_its_centre_kept(
    tmp_path: Path, config: PretrainConfig, pair: Pair
) -> None:
    contract = Contract(size=24)
    folder = tmp_path / "encoder"
    save_encoder(folder, network=pair.teacher, config=config, contract=contract, card_facts={})
    ramp = torch.arange(24.0).reshape(1, 1, 24, 1, 1).expand(1, 1, 24, 24, 24)
    cube = load_encoder(folder).cube(ramp)
    assert cube.shape == (1, 1, 8, 8, 8)
    # 24 voxels, pooled to 12, resampled to 8: centre i lies at 3 (i + 1/2) - 1/2 of the 24
    expected = 3 * (torch.arange(8.0) + 0.5) - 0.5
    torch.testing.assert_close(cube[0, 0, :, 4, 4], expected)


def test_bf16_is_close_to_fp32(encoder_folder: Path, cohort: Cohort) -> None:
    loaded, volumes = load_encoder(encoder_folder), cohort.load([0])
    exact, rough = loaded.features(volumes), loaded.features(volumes, precision="bf16")
    assert rough["token"].dtype == torch.float32
    # eight bits of mantissa through two blocks
    torch.testing.assert_close(rough["mean"], exact["mean"], rtol=0.1, atol=0.1)


def test_features_refuse_other_cubes(encoder_folder: Path) -> None:
    loaded = load_encoder(encoder_folder)
    with pytest.raises(EncoderError, match=r"prepared cubes \[batch, 1, 16, 16, 16\]"):
        loaded.features(torch.zeros(1, 1, 12, 12, 12))
    with pytest.raises(EncoderError, match="NaN"):
        loaded.features(torch.full((1, 1, 16, 16, 16), float("nan")))


def test_random_encoder_is_the_start_of_the_run(
    encoder_folder: Path, config: PretrainConfig
) -> None:
    loaded = load_encoder(encoder_folder)
    state = torch.random.get_rng_state()
    start, other = random_encoder(loaded), random_encoder(loaded, seed=4)
    assert torch.equal(state, torch.random.get_rng_state())
    fresh = build_pair(config.model, 8, config.seed).student
    for key, value in fresh.encoder.state_dict().items():
        assert torch.equal(value, start.encoder.state_dict()[key])
    for key, value in fresh.summariser.state_dict().items():
        assert torch.equal(value, start.summariser.state_dict()[key])
    assert not torch.equal(start.summariser.token, other.summariser.token)


def test_contract_contradictions_are_refused_with_the_keys(
    encoder_folder: Path, cohort: Cohort
) -> None:
    loaded = load_encoder(encoder_folder)
    check_contract(loaded, cohort)
    for key, value in {
        "spacing": 4.0,
        "size": 32,
        "fit": "pad",
        "percentiles": (1.0, 99.0),
    }.items():
        cohort.contract = loaded.contract.model_copy(update={key: value})
        with pytest.raises(EncoderError) as caught:
            check_contract(loaded, cohort)
        assert f"{key}: " in caught.value.what
        assert f"--set {key}=" in caught.value.fix
    other = {"scaling": "zscore", "value_range": None, "storage": "float16"}
    cohort.contract = loaded.contract.model_copy(update=other)
    with pytest.raises(EncoderError, match="scaling: range -> zscore"):
        check_contract(loaded, cohort)
    cohort.contract = loaded.contract.model_copy(update={"synthetic": False, "software": "other"})
    check_contract(loaded, cohort)


def test_wrong_places_say_what_they_are(encoder_folder: Path, cohort: Cohort) -> None:
    root = encoder_folder.parent
    with pytest.raises(EncoderError, match="No encoder there"):
        load_encoder(root / "nowhere")
    with pytest.raises(EncoderError, match="A run, not an encoder"):
        load_encoder(root)
    with pytest.raises(EncoderError, match="A cohort, not an encoder"):
        load_encoder(cohort.path)
    (encoder_folder / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"config\.json is missing"):
        load_encoder(encoder_folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Not readable as JSON"),
        ("[" * 100_000, "cannot be read"),
        ("[1]", "not a mapping"),
        ('{"format": 99}', "format 99 is unknown"),
        ('{"format": 1}', "'model' is missing"),
    ],
)
def test_bad_json_is_refused(encoder_folder: Path, text: str, message: str) -> None:
    (encoder_folder / "config.json").write_text(text)
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(encoder_folder)
    assert caught.value.fix


def test_changed_or_missing_weights_are_refused(encoder_folder: Path) -> None:
    file = encoder_folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(EncoderError, match=r"not those config\.json was written with"):
        load_encoder(encoder_folder)
    file.unlink()
    with pytest.raises(EncoderError, match="weights are missing"):
        load_encoder(encoder_folder)


def header(text: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + body


TENSOR = b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,%d]}}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x01",
        header(b"{}", length=2**63),
        header(b"{}", length=90),
        header(b"not json"),
        header(b'{"a":' * 50_000),
        header(b'\xff\xfe{"a": 1}'),
        header(TENSOR % (b"4", 16), body=bytes(8)),
        header(TENSOR % (b"4", 8), body=bytes(8)),
        header(TENSOR % (b"4294967296,4294967296", 8), body=bytes(8)),
        header(TENSOR % (b"-1", 8), body=bytes(8)),
        header(b'{"a":{"dtype":"OBJ","shape":[1],"data_offsets":[0,8]}}', body=bytes(8)),
    ],
)
def test_S4_malformed_safetensors_are_refused(encoder_folder: Path, raw: bytes) -> None:
    (encoder_folder / "model.safetensors").write_bytes(raw)
    reseal(encoder_folder)
    with pytest.raises(EncoderError, match="Not a whole safetensors file"):
        load_encoder(encoder_folder)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH", "last.ckpt", "pytorch_model.bin"])
def test_S3_a_foreign_pickle_is_refused_and_the_way_in_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(EncoderError, match="can hold any program") as refused:
        load_encoder(file)
    assert "volta3d import FILE --as" in refused.value.fix


def test_S_pickle_payload_never_runs(encoder_folder: Path, tmp_path: Path) -> None:
    import pickle

    witness = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    (encoder_folder / "model.safetensors").write_bytes(pickle.dumps(Payload()))
    reseal(encoder_folder)
    with pytest.raises(EncoderError):
        load_encoder(encoder_folder)
    assert not witness.exists()


def test_S_shape_bombs_are_refused_before_allocation(encoder_folder: Path) -> None:
    for changes, message in (
        ({"depth": 90_000}, "wants 90000 blocks"),
        ({"width": 90_000, "mlp": 90_000}, "do not fit"),  # 32 GB a matrix
        ({"width": 10**15}, "impossible sizes"),
    ):
        before = (encoder_folder / "config.json").read_text()
        edit_model(encoder_folder, **changes)
        with pytest.raises(EncoderError, match=message):
            load_encoder(encoder_folder)
        (encoder_folder / "config.json").write_text(before)
    edit_config(encoder_folder, image_size=100_000)
    with pytest.raises(EncoderError, match=r"do not fit.*position"):
        load_encoder(encoder_folder)


def test_damaged_architecture_is_refused(encoder_folder: Path) -> None:
    original = json.loads((encoder_folder / "config.json").read_text())
    for changes in (
        {"model": {**original["model"], "_target_": "os.system"}},
        {"model": {**original["model"], "width": 15}},
        {"model": {**original["model"], "patch_size": 3}},
        {"contract": {**original["contract"], "fit": "guess"}},
        {"image_size": -8},
        {"image_size": "8"},
        {"downsample": 3},
    ):
        edit_config(encoder_folder, **{**original, **changes})
        with pytest.raises(EncoderError):
            load_encoder(encoder_folder)
    edit_config(encoder_folder, **original)
    load_encoder(encoder_folder)


def test_tensors_that_do_not_fit_are_reported_by_name(encoder_folder: Path) -> None:
    file = encoder_folder / "model.safetensors"
    tensors = load_file(file)

    def refusal(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, file)
        reseal(encoder_folder)
        with pytest.raises(EncoderError) as caught:
            load_encoder(encoder_folder)
        return caught.value.what

    for key in tensors:
        assert f"1 missing ({key})" in refusal({k: v for k, v in tensors.items() if k != key})
    extra = refusal({**tensors, "decoder.weight": torch.zeros(1)})
    assert f"{len(tensors)} matched" in extra
    assert "1 unknown (decoder.weight)" in extra
    shorter = refusal({**tensors, "summariser.token": torch.zeros(1, 1, 15)})
    assert "1 other shape (summariser.token)" in shorter
    assert "NaN" in refusal({**tensors, "summariser.token": torch.full((1, 1, 16), np.nan)})
    assert "type" in refusal({**tensors, "summariser.token": torch.zeros(1, 1, 16).int()})


def test_a_copied_folder_works_elsewhere(
    encoder_folder: Path, tmp_path: Path, cohort: Cohort
) -> None:
    shutil.copytree(encoder_folder, tmp_path / "elsewhere" / "e")
    first = load_encoder(encoder_folder).features(cohort.load([1]))
    second = load_encoder(tmp_path / "elsewhere" / "e").features(cohort.load([1]))
    assert torch.equal(first["token"], second["token"])


@pytest.mark.parametrize("side", [3, 4, 6])
def test_regions_are_means_in_place(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, side**3, 5, generator=generator)
    found = regions(patches).view(2, 3, 3, 3, 5)
    grid = patches.view(2, side, side, side, 5)
    bounds = [(k * side // 3, -(-(k + 1) * side // 3)) for k in range(3)]
    for i, (a, b) in enumerate(bounds):
        for j, (c, d) in enumerate(bounds):
            for k, (e, f) in enumerate(bounds):
                expected = grid[:, a:b, c:d, e:f].mean((1, 2, 3))
                assert torch.allclose(found[:, i, j, k], expected, atol=1e-6)
