"""The networks: UNETR against MONAI's, weights of an encoder in it, freezing and learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.unetr import UNETR
from torch import nn
from torch.nn.functional import avg_pool3d

from volta3d.arms.networks.unetr import Unetr, coarser
from volta3d.arms.pretrained import LoadReport, fill, folding
from volta3d.arms.segmenter import Architecture, SegmenterArm, empty, resolve, sound_bf16
from volta3d.arms.tuning import parameter_groups, train_encoder
from volta3d.cohort.contract import Contract
from volta3d.config import load_segment
from volta3d.downstream.segmentation.memory_layout import LayoutNorm, fast_layout
from volta3d.encoder.load import load_encoder
from volta3d.errors import EncoderError, UsageError
from volta3d.model.vit import Encoder

TINY = ["crops.size=16", "unet.channels=[4,8]", "unet.strides=[2]", "unetr.features=2"]


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_unetr_equals_monai_s_with_the_same_weights() -> None:
    torch.manual_seed(0)
    ours = Unetr(Encoder(32, 16, 24, 12, 4, 48), classes=3, features=4).eval()
    theirs = UNETR(
        1, 3, 32, feature_size=4, hidden_size=24, mlp_dim=48, num_heads=4, norm_name="instance"
    ).eval()
    theirs.load_state_dict(ours.to_monai(32), strict=True)
    volumes = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        expected, found = theirs(volumes), ours(volumes)
    # the same sums, attention fused here and not there
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("patch", "depth"), [(2, 1), (4, 3), (8, 8), (16, 4)])
def test_unetr_follows_the_patch_and_takes_crops_of_any_size(patch: int, depth: int) -> None:
    network = Unetr(Encoder(16, patch, 8, depth, 2, 16), classes=3, features=2).eval()
    with torch.no_grad():
        found = network(torch.randn(1, 1, 16, 32, 16))
    assert found.shape == (1, 3, 16, 32, 16)
    assert all(0 <= tap < depth for tap in network.taps) and len(network.taps) == network.steps - 1


def test_hidden_states_are_taken_where_monai_takes_them() -> None:
    assert Unetr(Encoder(16, 16, 8, 12, 2, 16), 2, 2).taps == [3, 6, 9]
    assert Unetr(Encoder(16, 16, 8, 8, 2, 16), 2, 2).taps == [2, 4, 6]


@pytest.mark.parametrize(("patch", "depth", "word"), [(6, 8, "doubles"), (16, 2, "blocks")])
def test_an_encoder_that_no_unetr_fits_is_refused(patch: int, depth: int, word: str) -> None:
    with pytest.raises(EncoderError) as caught:
        Unetr(Encoder(patch, patch, 8, depth, 2, 16), 2)
    assert word in caught.value.paragraph()


@pytest.mark.parametrize("factor", [2, 4])
def test_larger_patches_see_exactly_what_pooled_volumes_showed(factor: int) -> None:
    """weight[i // f] / f^3 on all voxels is the weight on their means."""
    torch.manual_seed(1)
    pooled = Encoder(8, 4, 16, 2, 2, 32).eval()
    whole = Encoder(8 * factor, 4 * factor, 16, 2, 2, 32).eval()
    whole.load_state_dict(coarser(pooled.state_dict(), factor))
    volumes = torch.randn(2, 1, 8 * factor, 8 * factor, 8 * factor)
    with torch.no_grad():
        assert torch.allclose(whole(volumes), pooled(avg_pool3d(volumes, factor)), atol=1e-5)


def test_the_u_net_has_the_paper_s_size() -> None:
    config = load_segment("paper")
    (arm,) = resolve(["unet=unet"], config, Contract(), 3)
    assert round(count(empty(arm.architecture, 0, device="meta")) / 1e6, 2) == 4.81


CONTRACT = Contract(size=16, spacing=8.0, fit="pad", synthetic=True)


def arms_of(encoder: Path, spec: str, *settings: str) -> tuple[SegmenterArm, SegmenterArm]:
    """The arm of a SPEC, and the encoder's."""
    config = load_segment("small", [*TINY, *settings])
    first, second = resolve([f"a={spec}", f"b={encoder}"], config, CONTRACT, 3)
    return first, second


def built(arm: SegmenterArm, *settings: str) -> tuple[nn.Module, LoadReport | None]:
    return arm.build(0, load_segment("small", [*TINY, *settings]), CONTRACT)


def test_an_encoder_s_weights_arrive_and_the_report_says_how(encoder_folder: Path) -> None:
    """Patch 4 on volumes pooled by 2 becomes patch 8; a grid of 2^3 is kept for crops of 16."""
    network, report = built(arms_of(encoder_folder, str(encoder_folder))[0])
    loaded = load_encoder(encoder_folder)
    assert isinstance(network, Unetr) and report is not None
    assert (network.encoder.patch_size, report.folded, report.missing) == (8, 2, ())
    volumes = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        expected = loaded.vit(avg_pool3d(volumes, 2))
        assert torch.allclose(network.encoder(volumes), expected, atol=1e-5)
    assert any("fit" in line for line in report.differs)


def test_positions_are_resized_when_the_grid_of_crops_differs(encoder_folder: Path) -> None:
    arm, _ = arms_of(encoder_folder, str(encoder_folder), "crops.size=32")
    network, report = built(arm)
    assert report is not None and report.interpolated == ("patches.position",)
    loaded = load_encoder(encoder_folder)
    expected = loaded.vit.patches.positions((4, 4, 4))
    assert torch.equal(network.encoder.patches.position, expected)  # type: ignore[union-attr]


def test_too_little_of_an_encoder_is_refused(encoder_folder: Path) -> None:
    loaded = load_encoder(encoder_folder)
    contract = Contract(size=16, spacing=8.0, fit="pad", synthetic=True)
    other = Encoder(16, 8, 32, 2, 2, 32)  # twice as wide: hardly anything fits
    with pytest.raises(EncoderError, match=r"Only \d+%"):
        fill(other, loaded, contract, threshold=0.95)
    deeper = Encoder(16, 8, 16, 3, 2, 32)
    with pytest.raises(EncoderError, match="missing"):
        fill(deeper, loaded, contract, threshold=0.95)
    report = fill(deeper, loaded, contract, threshold=0.5)
    assert all(name.startswith("blocks.2.") for name in report.missing) and report.missing


def test_grey_values_prepared_otherwise_are_refused_grids_may_differ(encoder_folder: Path) -> None:
    loaded = load_encoder(encoder_folder)
    config = load_segment("small", TINY)
    other = Contract(size=16, spacing=8.0, scaling="zscore", value_range=None, storage="float16")
    with pytest.raises(EncoderError, match="scaling") as caught:
        resolve([f"a={encoder_folder}"], config, other, 3)
    assert "--set scaling=range" in caught.value.paragraph()
    assert folding(loaded, replace_spacing(loaded.contract, 4.0)) == 4
    assert folding(loaded, replace_spacing(loaded.contract, 16.0)) == 1


def replace_spacing(contract: Contract, spacing: float) -> Contract:
    return contract.model_copy(update={"spacing": spacing})


def test_scratch_is_the_very_network_of_the_encoder_arm_untrained(encoder_folder: Path) -> None:
    arm, other = arms_of(encoder_folder, "scratch")
    assert arm.architecture == other.architecture and arm.tune == other.tune
    network, report = built(arm)
    pretrained, _ = built(other)
    assert report is None
    same = {
        k for k, v in network.state_dict().items() if torch.equal(v, pretrained.state_dict()[k])
    }
    decoder = {k for k in network.state_dict() if not k.startswith("encoder.")}
    assert decoder <= same  # arms differ in the encoder's weights alone
    assert "encoder.blocks.0.attention.qkv.weight" not in same


def test_learning_rates_fall_towards_the_patches(encoder_folder: Path) -> None:
    network, _ = built(arms_of(encoder_folder, str(encoder_folder))[0])
    groups = parameter_groups(network, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    named = dict(network.named_parameters())
    assert len(rate) == len(named)
    expected = {
        "out.conv.conv.weight": 1.0,
        "encoder.norm.weight": 0.5,
        "encoder.blocks.1.mlp.up.weight": 0.5,
        "encoder.blocks.0.mlp.up.weight": 0.25,
        "encoder.patches.position": 0.125,
    }
    for name, value in expected.items():
        assert rate[id(named[name])] == value, name
    assert decay[id(named["encoder.norm.weight"])] == 0.0
    train_encoder(network, 1)
    assert named["encoder.blocks.1.mlp.up.weight"].requires_grad
    assert named["encoder.norm.weight"].requires_grad
    assert not named["encoder.blocks.0.mlp.up.weight"].requires_grad
    train_encoder(network, None)
    assert named["encoder.patches.position"].requires_grad
    train_encoder(network, 0)
    assert not named["encoder.patches.position"].requires_grad
    assert named["out.conv.conv.weight"].requires_grad


def test_crops_that_do_not_divide_are_refused_with_those_that_do() -> None:
    config = load_segment("small", ["crops.size=48", "unet.strides=[2,2,2,4]"])
    with pytest.raises(UsageError, match=r"crops\.size=32"):
        resolve(["u=unet"], config, Contract(), 3)


def test_patches_must_divide_crops_only_where_there_are_patches() -> None:
    config = load_segment("small", ["crops.size=40", "unet.channels=[4,8]", "unet.strides=[2]"])
    assert config.unetr.patch_size == 16
    resolve(["u=unet"], config, Contract(), 3)
    with pytest.raises(UsageError, match=r"patches of 16.*crops\.size=32"):
        resolve(["u=unet", "v=scratch"], config, Contract(), 3)


@pytest.mark.parametrize("word", ["staged:", ""])
def test_a_staged_encoder_that_would_never_thaw_is_refused(encoder_folder: Path, word: str) -> None:
    settings = ["epochs=12", "tune.encoder=staged" if not word else "tune.encoder=full"]
    with pytest.raises(UsageError, match=r"never thaws in 12.*frozen_epochs=3"):
        arms_of(encoder_folder, f"{word}{encoder_folder}", *settings, "tune.frozen_epochs=12")
    arms_of(encoder_folder, f"{word}{encoder_folder}", *settings, "tune.frozen_epochs=11")
    arms_of(encoder_folder, f"frozen:{encoder_folder}", "epochs=12", "tune.frozen_epochs=12")


def test_bfloat16_is_not_trusted_at_the_bottom_of_small_crops() -> None:
    unet = Architecture("unet", 3, {"strides": [2, 2, 2, 2]})
    assert not sound_bf16(unet, 32, torch.device("cpu"))
    assert sound_bf16(unet, 48, torch.device("cpu"))
    unetr = Architecture("unetr", 3, {"patch_size": 16})
    assert not sound_bf16(unetr, 16, torch.device("cpu"))
    assert sound_bf16(unetr, 32, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["unetr", "unet"])
def test_the_fast_layout_computes_the_same_and_keeps_the_weights(kind: str) -> None:
    sizes: dict[str, Any] = (
        {"channels": [4, 8], "strides": [2], "residual_units": 1}
        if kind == "unet"
        else {
            "image_size": 16, "patch_size": 8, "width": 16, "depth": 3, "heads": 2, "mlp": 16,
            "features": 4,
        }
    )  # fmt: skip
    plain, fast = (empty(Architecture(kind, 3, sizes), 0) for _ in range(2))
    fast_layout(fast)
    assert any(type(m) is LayoutNorm for m in fast.modules())
    assert plain.state_dict().keys() == fast.state_dict().keys()
    crops = torch.randn(2, 1, 16, 16, 16)
    wanted, got = plain(crops), fast(crops)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)  # fp32 sums in another order
    for network, out in ((plain, wanted), (fast, got)):
        out.square().mean().backward()
        assert all(p.grad is not None for p in network.parameters())
    largest = max(float(p.grad.abs().max()) for p in plain.parameters() if p.grad is not None)
    for (name, a), b in zip(plain.named_parameters(), fast.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        # a bias before a norm has no gradient but rounding, hence the second part
        allowed = 1e-3 * float(a.grad.abs().max()) + 1e-4 * largest
        assert float((a.grad - b.grad).abs().max()) < allowed, name


def test_a_layout_norm_is_an_instance_norm_that_keeps_channels_last() -> None:
    norm = nn.InstanceNorm3d(8)
    wanted = norm(volumes := torch.randn(3, 8, 5, 6, 7) * 3 + 2)
    fast_layout(nn.Sequential(norm))
    assert torch.equal(norm(volumes), wanted)  # plain layout goes the plain way
    laid = norm(volumes.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(laid, wanted, rtol=1e-5, atol=1e-5)
    assert laid.is_contiguous(memory_format=torch.channels_last_3d) and not laid.is_contiguous()
