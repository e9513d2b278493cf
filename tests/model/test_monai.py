"""Weights both ways with MONAI, and equal outputs."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNETR, ViTAutoEnc
from torch import Tensor, nn

from volta3d.errors import EncoderError
from volta3d.model.decoder import Decoder
from volta3d.model.monai import from_vitautoenc, to_unetr_vit, to_vitautoenc
from volta3d.model.vit import Encoder

TOLERANCE = 1e-5  # relative, fp32: the sums run in another order


def scramble(module: nn.Module, seed: int = 0) -> None:
    """Every parameter random, so that no two can be mixed up and no norm stays at (1, 0)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        parameter.data.normal_(std=0.2, generator=generator)
        if "norm" in name and name.endswith("weight"):
            parameter.data.add_(1.0)


def theirs(size: int, patch: int = 16, depth: int = 2) -> ViTAutoEnc:
    return ViTAutoEnc(
        in_channels=1, img_size=size, patch_size=patch, hidden_size=24, mlp_dim=40,
        num_layers=depth, num_heads=3, deconv_chns=4,
    )  # fmt: skip


def ours(size: int, patch: int = 16, depth: int = 2) -> tuple[Encoder, Decoder]:
    encoder = Encoder(size, patch, width=24, depth=depth, heads=3, mlp=40)
    return encoder, Decoder(patch, width=24, channels=4)


def relative(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).abs().max() / expected.abs().max())


def cube(size: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 1, size, size, size, generator=torch.Generator().manual_seed(7))


def check(monai: ViTAutoEnc, encoder: Encoder, decoder: Decoder, volumes: Tensor) -> None:
    with torch.no_grad():
        expected, states = monai(volumes)
        tokens = encoder(volumes)
        edge = volumes.shape[2] // encoder.patch_size
        rebuilt = decoder(tokens, (edge, edge, edge))
        assert relative(rebuilt, expected) <= TOLERANCE
        assert relative(tokens, monai.norm(states[-1])) <= TOLERANCE
        got = encoder.hidden_states(volumes)
        assert len(got) == len(states)
        for one, other in zip(got, states, strict=True):
            assert relative(one, other) <= TOLERANCE


@pytest.mark.parametrize(("size", "patch"), [(12, 4), (27, 9), (32, 16)])
def test_X9_to_monai_gives_equal_outputs(size: int, patch: int) -> None:
    encoder, decoder = ours(size, patch)
    scramble(encoder, 1)
    scramble(decoder, 2)
    monai = theirs(size, patch)
    monai.load_state_dict(to_vitautoenc(encoder, decoder), strict=True)
    check(monai, encoder, decoder, cube(size, batch=2))


def test_X9_at_the_papers_grid() -> None:
    """96³, patches of 16, 216 tokens; the width reduced."""
    encoder, decoder = ours(96)
    scramble(encoder)
    scramble(decoder)
    monai = theirs(96)
    monai.load_state_dict(to_vitautoenc(encoder, decoder), strict=True)
    check(monai, encoder, decoder, cube(96))


def test_X9_from_monai_gives_equal_outputs_and_gradients() -> None:
    monai = theirs(12, 4)
    scramble(monai)
    encoder, decoder = from_vitautoenc(monai.state_dict(), heads=3)
    assert decoder is not None
    check(monai, encoder, decoder, cube(12))
    volumes = cube(12).requires_grad_()
    (expected,) = torch.autograd.grad(monai(volumes)[0].square().sum(), volumes)
    (got,) = torch.autograd.grad(decoder(encoder(volumes), (3, 3, 3)).square().sum(), volumes)
    assert relative(got, expected) <= 10 * TOLERANCE  # twice the depth of the forward pass


def test_X9_there_and_back_is_bitwise_the_same() -> None:
    encoder, decoder = ours(12, 4)
    scramble(encoder)
    scramble(decoder)
    state = to_vitautoenc(encoder, decoder)
    for value in state.values():
        assert value.is_contiguous() and not value.requires_grad
    back, back_decoder = from_vitautoenc(state, heads=3)
    assert back_decoder is not None
    for one, other in ((encoder, back), (decoder, back_decoder)):
        assert one.state_dict().keys() == other.state_dict().keys()
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])
    state["norm.weight"].zero_()  # a copy: the model must not notice
    assert encoder.norm.weight.all()


def test_X9_unetr_vit_loads_strictly_and_gives_equal_outputs() -> None:
    encoder, _ = ours(32, depth=12)
    scramble(encoder)
    unetr = UNETR(1, 3, 32, feature_size=2, hidden_size=24, mlp_dim=40, num_heads=3)
    unetr.vit.load_state_dict(to_unetr_vit(encoder), strict=True)
    volumes = cube(32)
    with torch.no_grad():
        expected, states = unetr.vit(volumes)
        assert relative(encoder(volumes), expected) <= TOLERANCE
        for one, other in zip(encoder.hidden_states(volumes), states, strict=True):
            assert relative(one, other) <= TOLERANCE


def test_X9_unetr_of_another_image_size_gets_interpolated_positions() -> None:
    encoder, _ = ours(32, depth=12)
    scramble(encoder)
    unetr = UNETR(1, 3, 48, feature_size=2, hidden_size=24, mlp_dim=40, num_heads=3)
    unetr.vit.load_state_dict(to_unetr_vit(encoder, image_size=48), strict=True)
    volumes = cube(48)
    with torch.no_grad():
        assert relative(encoder(volumes), unetr.vit(volumes)[0]) <= TOLERANCE


def test_X9_full_size_has_the_known_number_of_parameters() -> None:
    """88,359,168 with MONAI's unused norms, which ours does without: 12 blocks of 2 * 768."""
    with torch.device("meta"):
        encoder = Encoder(image_size=96, patch_size=16, width=768, depth=12, heads=12, mlp=3072)
        decoder = Decoder(16, 768, 16)
        monai = ViTAutoEnc(in_channels=1, img_size=96, patch_size=16)
    assert sum(v.numel() for v in to_unetr_vit(encoder).values()) == 88_359_168
    assert sum(p.numel() for p in encoder.parameters()) == 88_359_168 - 12 * 2 * 768
    shapes = {name: value.shape for name, value in to_vitautoenc(encoder, decoder).items()}
    assert shapes == {name: value.shape for name, value in monai.state_dict().items()}


def test_fresh_weights_are_spread_as_monais() -> None:
    encoder, decoder = ours(48)
    fresh = theirs(48).state_dict()
    compared = 0
    for name, value in to_vitautoenc(encoder, decoder).items():
        if value.numel() >= 500:  # the estimate errs by 1/sqrt(1000), twice
            assert float(value.std()) == pytest.approx(float(fresh[name].std()), rel=0.12), name
            compared += 1
        elif "norm" in name:
            assert torch.equal(value, fresh[name]), name
    assert compared >= 10


def test_older_monai_states_with_unused_cross_attention_are_read() -> None:
    monai = theirs(12, 4)
    state = monai.state_dict()
    state["blocks.0.cross_attn.out_proj.weight"] = torch.zeros(24, 24)
    encoder, decoder = from_vitautoenc(state, heads=3)
    assert decoder is not None
    check(monai, encoder, decoder, cube(12))


def test_a_state_without_decoder_gives_the_encoder_alone() -> None:
    encoder, decoder = ours(12, 4)
    state = {k: v for k, v in to_vitautoenc(encoder, decoder).items() if "transpose" not in k}
    back, none = from_vitautoenc(state, heads=3)
    assert none is None
    with torch.no_grad():
        assert torch.equal(back(cube(12)), encoder(cube(12)))


def remove(key: str):  # type: ignore[no-untyped-def]
    return lambda state: state.pop(key)


def put(key: str, value: object):  # type: ignore[no-untyped-def]
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (remove("patch_embedding.patch_embeddings.weight"), "is missing"),
        (remove("blocks.1.attn.qkv.weight"), "1 missing .blocks.1.attn.qkv.weight"),
        (remove("conv3d_transpose_1.weight"), "missing"),
        (put("blocks.0.attn.qkv.bias", torch.zeros(72)), "unknown .blocks.0.attn.qkv.bias"),
        (put("norm.weight", torch.zeros(25)), "another shape .norm.weight"),
        (put("norm.weight", torch.zeros(24, dtype=torch.int64)), "floating-point"),
        (put("norm.weight", "cos"), "floating-point"),
        (put("patch_embedding.position_embeddings", torch.zeros(1, 26, 24)), "position"),
        (put("patch_embedding.position_embeddings", torch.zeros(24)), "3 dimensions"),
        (put("patch_embedding.patch_embeddings.weight", torch.zeros(24, 2, 4, 4, 4)), "2 input"),
        (put("patch_embedding.patch_embeddings.weight", torch.zeros(24, 1, 4, 4, 2)), "shape"),
        (put("blocks.0.mlp.linear1.weight", torch.zeros(0, 24)), "dimensions"),
    ],
)
def test_states_that_do_not_fit_are_refused(damage, what: str) -> None:  # type: ignore[no-untyped-def]
    encoder, decoder = ours(12, 4)
    state = to_vitautoenc(encoder, decoder)
    damage(state)
    with pytest.raises(EncoderError, match=what):
        from_vitautoenc(state, heads=3)


def test_nothing_and_wrong_heads_are_refused() -> None:
    with pytest.raises(EncoderError, match="is missing"):
        from_vitautoenc({}, heads=3)
    with pytest.raises(EncoderError, match="multiple of 5 attention heads"):
        from_vitautoenc(to_vitautoenc(*ours(12, 4)), heads=5)


def test_what_monai_cannot_hold_is_refused() -> None:
    with pytest.raises(EncoderError, match="perfect square"):
        to_vitautoenc(*ours(16, 8))
    with pytest.raises(EncoderError, match="does not fit the encoder"):
        to_vitautoenc(ours(12, 4)[0], Decoder(9, 24, 4))
    with pytest.raises(EncoderError, match="patches of 16 and 12 blocks"):
        to_unetr_vit(ours(32)[0])
    with pytest.raises(EncoderError, match="100 is not a multiple"):
        to_unetr_vit(ours(32, depth=12)[0], image_size=100)
