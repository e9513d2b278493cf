"""``import``: weights of the shapes of published encoders come in whole, and nothing else does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from monai.networks.nets import UNETR, SwinUNETR, ViT, ViTAutoEnc, resnet
from monai.networks.nets.autoencoderkl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, max_pool3d

from volta3d.cohort.store import Cohort, write_cohort
from volta3d.encoder.embed import embed, features_of
from volta3d.encoder.foreign.dinov2 import Dinov2
from volta3d.encoder.foreign.unet import UnetEncoder
from volta3d.encoder.imported import contract_names, import_encoder, read_published
from volta3d.encoder.keymap import map_names
from volta3d.encoder.load import load_encoder, random_encoder
from volta3d.errors import ConfigError, EncoderError, UsageError

State = dict[str, Tensor]


def write_contract(folder: Path, size: int, **more: Any) -> Path:
    prepare = {"spacing": 4.0, "size": size, "fit": "pad"}
    file = folder / "contract.yaml"
    file.write_text(yaml.safe_dump({"contract": prepare, "image_size": size} | more))
    return file


def shaken(network: nn.Module) -> nn.Module:
    """Every tensor away from its start, so that one that isn't loaded shows."""
    generator = torch.Generator().manual_seed(1)
    for value in network.state_dict().values():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(value * 0.5 + 0.1 * noise + 0.01)
    return network.eval()


def small_vit(**more: Any) -> ViT:
    sizes = {"img_size": 32, "patch_size": 8, "hidden_size": 24, "mlp_dim": 48}
    return ViT(1, **sizes, num_layers=3, num_heads=2, spatial_dims=3, **more)


def test_a_monai_vit_says_what_monai_says(tmp_path: Path) -> None:
    theirs = shaken(small_vit())
    state = {f"backbone.{k}": v for k, v in theirs.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    contract = write_contract(tmp_path, 32, options={"heads": 2})
    report = import_encoder(
        tmp_path / "w.safetensors", tmp_path / "e", contract=contract, kind="monai-vit"
    )
    assert not report.missing and not report.unknown and not report.other_shape
    loaded = load_encoder(tmp_path / "e")
    cubes = torch.rand(2, 1, 32, 32, 32)
    with torch.no_grad():
        expected = theirs(cubes)[0]
    found = loaded.features(cubes)
    # two attention kernels sum in another order, of numbers about 1
    torch.testing.assert_close(found["patches"], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["token"], expected.mean(1), rtol=1e-3, atol=1e-4)
    assert loaded.scale is not None and (loaded.scale.voxel_mm, loaded.scale.token_mm) == (4, 32)


def test_vitautoenc_and_unetr_give_the_vit_inside(tmp_path: Path) -> None:
    auto = ViTAutoEnc(1, 32, (4, 4, 4), hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2)
    unetr = UNETR(1, 2, 32, hidden_size=24, mlp_dim=48, num_heads=2, proj_type="conv")
    contract = write_contract(tmp_path, 32, options={"heads": 2})
    for kind, network in (("vitautoenc", auto), ("unetr", unetr)):
        torch.save({"state_dict": shaken(network).state_dict()}, tmp_path / "w.pt")
        import_encoder(tmp_path / "w.pt", tmp_path / kind, contract=contract, kind=kind)
        vit = network.vit if kind == "unetr" else network
        cube = torch.rand(1, 1, 32, 32, 32)
        with torch.no_grad():
            hidden = vit(cube)[1][-1]
            expected = vit.norm(hidden)
        found = load_encoder(tmp_path / kind).features(cube)["patches"]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_swinunetr_gives_the_last_map_of_its_swin(tmp_path: Path) -> None:
    theirs = shaken(SwinUNETR(1, 2, feature_size=12, depths=(2, 2, 2, 2), num_heads=(3, 3, 6, 6)))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    contract = write_contract(tmp_path, 64)
    import_encoder(tmp_path / "w.pth", tmp_path / "e", contract=contract, kind="swinunetr")
    cube = torch.rand(1, 1, 64, 64, 64)
    with torch.no_grad():
        expected = theirs.swinViT(cube)[-1]
    found = load_encoder(tmp_path / "e").features(cube)["patches"]
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-4)


def dinov2_by_hand(state: State, cube: Tensor, heads: int) -> Tensor:
    """The formulas of the architecture, token by token where that is simple."""
    weight = state["patch_embed.proj.weight"]
    width, p = weight.shape[0], weight.shape[2]
    n = cube.shape[-1] // p
    rows = []
    for i in range(n**3):
        a, b, c = i // n**2 * p, i // n % n * p, i % n * p
        patch = cube[0, 0, a : a + p, b : b + p, c : c + p]
        rows.append((weight[:, 0] * patch).sum((1, 2, 3)) + state["patch_embed.proj.bias"])
    x = torch.stack(rows) + state["pos_embed"][0, 1:]
    x = torch.cat([state["cls_token"][0] + state["pos_embed"][0, :1], x])

    def norm(name: str, t: Tensor) -> Tensor:
        centred = t - t.mean(1, keepdim=True)
        t = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return t * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, t: Tensor) -> Tensor:
        return t @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for b in range(2):
        q, k, v = linear(f"blocks.{b}.attn.qkv", norm(f"blocks.{b}.norm1", x)).split(width, 1)
        d, mixed = width // heads, torch.empty_like(x)
        for h in range(heads):
            s = slice(h * d, (h + 1) * d)
            mixed[:, s] = (q[:, s] @ k[:, s].T / d**0.5).softmax(1) @ v[:, s]
        x = x + state[f"blocks.{b}.ls1.gamma"] * linear(f"blocks.{b}.attn.proj", mixed)
        hidden = linear(f"blocks.{b}.mlp.fc1", norm(f"blocks.{b}.norm2", x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = x + state[f"blocks.{b}.ls2.gamma"] * linear(f"blocks.{b}.mlp.fc2", hidden)
    return norm("norm", x)


def test_dinov2_on_volumes_from_the_teacher(tmp_path: Path) -> None:
    theirs = shaken(Dinov2(2, 8, 32, 2, 4, 64, 0))
    state = {k: v.clone() for k, v in theirs.state_dict().items()}
    # chunks of blocks, and a student beside the teacher that must not be taken
    named = {k.replace("blocks.", "blocks.0."): v for k, v in state.items()}
    both = {f"teacher.backbone.{k}": v for k, v in named.items()}
    both |= {f"student.backbone.{k}": torch.zeros_like(v) for k, v in named.items()}
    both["teacher.dino_head.mlp.0.weight"] = torch.zeros(3, 3)
    torch.save({"model": both, "epoch": 3}, tmp_path / "w.pth")
    contract = write_contract(tmp_path, 16, options={"heads": 4})
    import_encoder(tmp_path / "w.pth", tmp_path / "e", contract=contract, kind="dinov2-3d")
    cube = torch.rand(1, 1, 16, 16, 16)
    expected = dinov2_by_hand(state, cube, 4)
    found = load_encoder(tmp_path / "e").features(cube)
    torch.testing.assert_close(found["token"][0], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["patches"][0], expected[1:], rtol=1e-4, atol=1e-4)


def test_unet_encoder_by_the_formula() -> None:
    network = shaken(UnetEncoder(2))
    state = network.state_dict()
    maps = cube = torch.rand(1, 1, 32, 32, 32)
    for number, name in enumerate(
        ("in_conv", "encoder_conv1", "encoder_conv2", "encoder_conv3", "encoder_conv4")
    ):
        maps = max_pool3d(maps, 2) if number else maps
        for layer in ("conv1", "conv2"):
            stem = f"encoder.{name}.{layer}"
            maps = torch.nn.functional.conv3d(
                maps, state[f"{stem}.conv.weight"], state[f"{stem}.conv.bias"], padding=1
            )
            centred = maps - maps.mean((2, 3, 4), keepdim=True)
            maps = centred / (centred.square().mean((2, 3, 4), keepdim=True) + 1e-5).sqrt()
            scale, shift = state[f"{stem}.norm.weight"], state[f"{stem}.norm.bias"]
            maps = leaky_relu(maps * scale[:, None, None, None] + shift[:, None, None, None], 0.01)
    with torch.no_grad():
        found = network(cube)
    torch.testing.assert_close(found, maps.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3)


def published_state(name: str) -> State:
    """Tensors of the names and shapes of a published checkpoint, drawn at random."""
    with torch.device("meta"):
        if name == "brainiac":
            network: nn.Module = ViT(1, 96, 16, 768, 3072, 12, 12)
            state = {f"backbone.{k}": v for k, v in network.state_dict().items()}
        elif name == "3d-neuro-simclr":
            network = resnet.resnet18(spatial_dims=3, n_input_channels=1, feed_forward=False)
            state = {f"encoder.{k}": v for k, v in network.state_dict().items()}
            state["projector.0.weight"] = torch.empty(512, 512)
        elif name == "brain2vec":
            network = AutoencoderKL(
                3, 1, 1, (2,) * 4, (64, 128, 128, 128), (False,) * 4, 1, 32, 1e-6, False, False
            )
            state = dict(network.state_dict())
        else:
            network = UnetEncoder(32)
            state = {f"model.{k}": v for k, v in network.state_dict().items()}
            state["model.rec_head.out_conv.weight"] = torch.empty(1, 32, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    return {
        k: torch.randn(v.shape, generator=generator) * 0.02
        if v.is_floating_point()
        else torch.zeros(v.shape, dtype=v.dtype)
        for k, v in state.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", contract_names())
def test_weights_of_a_published_encoder_s_exact_shapes(name: str, tmp_path: Path) -> None:
    state = published_state(name)
    torch.save({"model_state_dict": state}, tmp_path / "w.pt")
    report = import_encoder(tmp_path / "w.pt", tmp_path / "e", contract=name)
    assert not (report.missing or report.other_shape), report.text()
    loaded = load_encoder(tmp_path / "e")
    widths = {"brainiac": 768, "3d-neuro-simclr": 512, "brain2vec": 8}
    edges = {"brainiac": 16, "3d-neuro-simclr": 16, "brain2vec": 16}
    assert loaded.width == widths.get(name, 512) and loaded.patch_size == edges.get(name, 16)
    about = json.loads((tmp_path / "e" / "config.json").read_text())["imported"]
    assert about["facts"] and about["differs"] and about["source"].startswith("https://")
    given = sorted(float(v.double().sum()) for v in state.values() if v.is_floating_point())
    kept = [float(v.double().sum()) for v in load_file(tmp_path / "e/model.safetensors").values()]
    assert all(np.isclose(given, value, rtol=1e-6).any() for value in kept)


def test_resnet_on_turned_axes_against_monai(tmp_path: Path) -> None:
    theirs = shaken(resnet.resnet18(spatial_dims=3, n_input_channels=1, feed_forward=False))
    state = {f"encoder.{k}": v for k, v in theirs.state_dict().items()}
    torch.save({"model_state_dict": state}, tmp_path / "w.tar")
    contract = write_contract(tmp_path, 32, axes=[2, 1, 0], options={"stride": 1})
    import_encoder(tmp_path / "w.tar", tmp_path / "e", contract=contract, kind="monai-resnet")
    cube = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        expected = theirs(cube.permute(0, 1, 4, 3, 2))
    found = load_encoder(tmp_path / "e").features(cube)
    torch.testing.assert_close(found["token"], expected, rtol=1e-3, atol=1e-4)
    # a change at the front of an axis changes the tokens at the front of that axis most
    cube[..., :8, :, :] += 1
    grid = (load_encoder(tmp_path / "e").features(cube)["patches"] - found["patches"]).abs()
    by_x = grid.sum(-1).reshape(2, 2, 2).sum((1, 2))
    assert by_x[0] > by_x[1]


def test_less_than_all_is_refused_unless_told(tmp_path: Path) -> None:
    state = dict(small_vit().state_dict())
    del state["blocks.1.mlp.linear1.bias"]
    state["norm.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "w.safetensors")
    contract = write_contract(tmp_path, 32, options={"heads": 2})
    arguments: dict[str, Any] = {"contract": contract, "kind": "monai-vit"}
    with pytest.raises(EncoderError, match=r"1 missing .*1 other shape"):
        import_encoder(tmp_path / "w.safetensors", tmp_path / "e", **arguments)
    assert not (tmp_path / "e").exists()
    report = import_encoder(tmp_path / "w.safetensors", tmp_path / "e", matched=0.9, **arguments)
    assert report.missing == ("blocks.1.mlp.up.bias",) and report.other_shape == ("norm.bias",)
    assert load_encoder(tmp_path / "e").config["imported"]["random"]


def test_S3_a_pickle_s_payload_never_runs(tmp_path: Path) -> None:
    import pickle

    witness = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {witness}",))

    contract = write_contract(tmp_path, 32)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"state_dict": Payload()}))
    torch.save({"state_dict": Payload()}, tmp_path / "zip.pt")
    for name in ("raw.pt", "zip.pt"):
        with pytest.raises(EncoderError, match="Not a file of tensors alone"):
            import_encoder(tmp_path / name, tmp_path / "e", contract=contract, kind="monai-vit")
    assert not witness.exists() and not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [(b"", "tensors alone"), (b"garbage" * 99, "tensors alone")],
)
def test_damaged_files_are_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "w.pt").write_bytes(raw)
    with pytest.raises(EncoderError, match=message):
        import_encoder(tmp_path / "w.pt", tmp_path / "e", contract="brainiac")


def test_what_cannot_be_meant_is_one_paragraph(tmp_path: Path) -> None:
    save_file(dict(small_vit().state_dict()), tmp_path / "w.safetensors")
    contract = write_contract(tmp_path, 32)
    weights, out = tmp_path / "w.safetensors", tmp_path / "e"
    with pytest.raises(EncoderError, match=r"none is called 'encoder\.in_conv"):
        import_encoder(weights, out, contract=contract, kind="unet")
    with pytest.raises(UsageError, match="No such kind"):
        import_encoder(weights, out, contract=contract, kind="resnext")
    with pytest.raises(UsageError, match="No such contract"):
        import_encoder(weights, out, contract="brainiak")
    with pytest.raises(EncoderError, match="doesn't take cubes of 36"):
        import_encoder(weights, out, contract=write_contract(tmp_path, 36), kind="monai-vit")
    with pytest.raises(EncoderError, match="No such file"):
        import_encoder(tmp_path / "none.pt", out, contract="brainiac")
    (tmp_path / "bad.yaml").write_text("contract: 3")
    with pytest.raises(ConfigError):
        read_published(tmp_path / "bad.yaml")
    assert not out.exists()


def test_a_cohort_s_contract_and_options_will_do(tmp_path: Path, cohort: Cohort) -> None:
    save_file(dict(small_vit().state_dict()), tmp_path / "w.safetensors")
    contract = cohort.path / "contract.yaml"
    arguments: dict[str, Any] = {"contract": contract, "kind": "monai-vit"}
    weights, out = tmp_path / "w.safetensors", tmp_path / "e"
    import_encoder(weights, out, options={"heads": 2}, **arguments)
    loaded = load_encoder(out)
    assert (loaded.image_size, loaded.contract.size) == (32, 16)  # as its positions say
    assert loaded.vit.blocks[0].attention.heads == 2  # type: ignore[union-attr]
    with pytest.raises(EncoderError, match="not a multiple of"):
        import_encoder(weights, out, options={"heads": 5}, **arguments)


def test_every_contract_names_a_map() -> None:
    for name in contract_names():
        assert read_published(name).weights in map_names()


def test_an_imported_encoder_embeds_a_cohort_like_any_other(tmp_path: Path) -> None:
    theirs = shaken(SwinUNETR(1, 2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(3, 3, 3, 3)))
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    contract = write_contract(tmp_path, 128, image_size=64)
    import_encoder(tmp_path / "w.pt", tmp_path / "e", contract=contract, kind="swinunetr")
    loaded = load_encoder(tmp_path / "e")
    volumes = np.random.default_rng(0).random((2, 128, 128, 128), dtype=np.float32)
    table = pd.DataFrame({"scan_id": ["a", "b"]})
    cohort: Cohort = write_cohort(tmp_path / "c", loaded.contract, volumes, table)
    assert loaded.reading().tiles == 2
    found = features_of(embed(loaded, cohort.path, kinds=("mean",)), "mean")
    fresh = features_of(embed(random_encoder(loaded, 1), cohort.path, kinds=("mean",)), "mean")
    assert found.shape == (2, 192) and not np.allclose(found, fresh)
