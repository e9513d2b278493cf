"""The networks: shapes, what is frozen, what differs between arms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch.nn.functional import layer_norm

from volta3d.arms.networks.classifier import (
    Head,
    VitClassifier,
    fresh_vit,
    parameter_counts,
)
from volta3d.arms.swin import SIZES, SwinClassifier
from volta3d.config import ModelConfig
from volta3d.encoder.load import load_encoder, random_encoder

MODEL = ModelConfig(patch_size=4, width=16, depth=3, heads=2, mlp=32, summariser_heads=2)


def vit(**settings: Any) -> VitClassifier:
    encoder, summariser = fresh_vit(MODEL, 8, seed=1)
    options: dict[str, Any] = {"pooling": "token", "outputs": 2, "tune": "last", "blocks": 2}
    return VitClassifier(encoder, summariser, seed=0, **(options | settings))


def cubes(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["token", "mean", "concat", "regions"])
@pytest.mark.parametrize("tune", ["frozen", "last", "full"])
def test_stem_and_rest_are_the_whole(pooling: str, tune: str) -> None:
    network, x = vit(pooling=pooling, tune=tune), cubes()
    tokens = network.encoder(x)
    token = network.summariser(tokens)
    wanted = {
        "token": token,
        "mean": tokens.mean(1),
        "concat": torch.cat([token, tokens.mean(1)], 1),
    }
    if pooling in wanted:
        # the very operations of the encoder, in their order
        assert torch.equal(network.features(network.stem(x)), wanted[pooling])
    assert network(x).shape == (3, 2)


def test_what_is_tuned_is_what_was_asked_for() -> None:
    def trained(network: VitClassifier) -> set[str]:
        names = [n for n, p in network.named_parameters() if p.requires_grad]
        return {".".join(n.split(".")[: 3 if n.startswith("encoder.blocks") else 2]) for n in names}

    head = {"head.norm", "head.linear"}
    assert trained(vit(tune="frozen")) == head
    assert trained(vit(tune="last", blocks=1, pooling="mean")) == head | {
        "encoder.blocks.2",
        "encoder.norm",
    }
    last = trained(vit(tune="last", blocks=2))
    assert {"encoder.blocks.1", "encoder.blocks.2", "summariser.block"} <= last
    assert not {"encoder.blocks.0", "encoder.patches"} & last
    assert {"encoder.blocks.0", "encoder.patches"} <= trained(vit(tune="full"))
    assert {"encoder.blocks.0"} <= trained(vit(tune="last", blocks=99))


def test_gradients_stop_at_the_stem() -> None:
    network = vit(tune="last", blocks=1)
    network(cubes()).sum().backward()
    given = {n for n, p in network.named_parameters() if p.grad is not None}
    assert given == {n for n, p in network.named_parameters() if p.requires_grad}


def test_the_encoder_given_is_never_changed() -> None:
    encoder, summariser = fresh_vit(MODEL, 8, seed=1)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    network = VitClassifier(
        encoder, summariser, pooling="token", outputs=2, tune="full", blocks=1, seed=0
    )
    torch.optim.SGD(network.parameters(), lr=1.0).zero_grad()
    network(cubes()).sum().backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.requires_grad for p in encoder.parameters())


def test_L11_scratch_differs_from_the_encoder_in_its_weights_alone(encoder_folder: Any) -> None:
    loaded = load_encoder(encoder_folder)
    model = ModelConfig.model_validate(loaded.config["model"])
    encoder, summariser = fresh_vit(model, loaded.image_size, seed=5)
    options: dict[str, Any] = {"pooling": "token", "outputs": 2, "blocks": 1, "seed": 9}
    a = VitClassifier(loaded.encoder, loaded.summariser, tune="full", **options)
    b = VitClassifier(encoder, summariser, tune="full", **options)
    assert str(a) == str(b) and parameter_counts(a) == parameter_counts(b)
    assert all(
        torch.equal(x, y)
        for x, y in zip(a.head.state_dict().values(), b.head.state_dict().values(), strict=True)
    )
    assert not torch.equal(a.encoder.patches.projection.weight, b.encoder.patches.projection.weight)
    # and scratch is the start that pretraining had
    start = random_encoder(loaded, seed=5)
    assert torch.equal(start.encoder.patches.position, encoder.patches.position)


def test_swin_is_the_one_of_8_06_million() -> None:
    with torch.random.fork_rng():
        reference = SwinTransformer(**SIZES)  # type: ignore[arg-type]
    count = sum(p.numel() for p in reference.parameters())
    assert round(count / 1e6, 2) == 8.06  # METHOD section 7
    network = SwinClassifier(outputs=2, seed=0, head_seed=0)
    assert parameter_counts(network)["parameters"] == count + 2 * 768 + 768 * 2 + 2
    assert network(cubes(2)).shape == (2, 2)
    assert torch.equal(network.stem(cubes()), cubes())
    other = SwinClassifier(outputs=2, seed=1, head_seed=0)
    assert not torch.equal(network.swin.patch_embed.proj.weight, other.swin.patch_embed.proj.weight)


def test_the_head_is_layernorm_and_linear_and_may_be_standardised() -> None:
    head = Head(6, 2, seed=0)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    plain = layer_norm(x, (6,)) @ head.linear.weight.T + head.linear.bias
    # two orders of the same sums in fp32
    assert torch.allclose(head(x), plain, atol=1e-6)
    head.standardise(x)
    normed = layer_norm(x, (6,))
    scaled = (normed - normed.mean(0)) / normed.std(0, correction=0)
    assert torch.allclose(head(x), scaled @ head.linear.weight.T + head.linear.bias, atol=1e-5)
    head.standardise(torch.ones(4, 6))  # features that do not vary
    assert head(x).isfinite().all()


def test_R1_networks_are_pure_functions_of_their_seed() -> None:
    torch.manual_seed(1)
    a = vit().state_dict()
    torch.manual_seed(2)
    b = vit().state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
