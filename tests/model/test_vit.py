"""The encoder: shapes, hidden states, checkpointing, autocast, gradients."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from volta3d.model.decoder import Decoder
from volta3d.model.heads import ProjectionHead
from volta3d.model.summariser import Summariser
from volta3d.model.vit import Encoder


@pytest.fixture
def encoder() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(image_size=16, patch_size=4, width=12, depth=3, heads=3, mlp=20)


@pytest.fixture
def volumes() -> torch.Tensor:
    return torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def test_forward_is_the_norm_of_the_last_hidden_state(
    encoder: Encoder, volumes: torch.Tensor
) -> None:
    states = encoder.hidden_states(volumes)
    assert [state.shape for state in states] == 3 * [(2, 64, 12)]
    assert torch.equal(encoder(volumes), encoder.norm(states[-1]))


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 16, 24)])
def test_other_sizes_pass(encoder: Encoder, shape: tuple[int, int, int]) -> None:
    tokens = encoder(torch.rand(1, 1, *shape))
    assert tokens.shape == (1, shape[0] * shape[1] * shape[2] // 64, 12)


def test_checkpointing_changes_no_number(encoder: Encoder, volumes: torch.Tensor) -> None:
    results = []
    for encoder.checkpointing in (False, True):
        encoder.zero_grad()
        tokens = encoder(volumes)
        tokens.square().mean().backward()
        results.append([tokens, *(p.grad for p in encoder.parameters() if p.grad is not None)])
    assert len(results[0]) == 1 + len(list(encoder.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_checkpointing_keeps_fewer_activations(encoder: Encoder, volumes: torch.Tensor) -> None:
    kept = []
    for encoder.checkpointing in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            encoder(volumes)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


@torch.no_grad()
def test_X11_bf16_autocast_keeps_the_residual_stream_in_fp32(
    encoder: Encoder, volumes: torch.Tensor
) -> None:
    exact = encoder(volumes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, tokens = encoder.hidden_states(volumes), encoder(volumes)
    assert {state.dtype for state in states} | {tokens.dtype} == {torch.float32}
    # bf16 keeps 8 bits: .4 % per rounding, a few of them in a row
    assert float((tokens - exact).abs().max() / exact.abs().max()) < 0.05


def test_X11_extreme_volumes_give_finite_tokens(encoder: Encoder, volumes: torch.Tensor) -> None:
    for scale in (0.0, 1e-30, 1e4):
        assert encoder(scale * volumes).isfinite().all()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert encoder(scale * volumes).isfinite().all()


def test_X8_gradcheck_of_the_whole_network() -> None:
    """Every parameter and the input of a tiny network, in float64, interpolation included."""
    parts = torch.nn.ModuleDict(
        {
            "encoder": Encoder(image_size=6, patch_size=2, width=4, depth=1, heads=2, mlp=4),
            "decoder": Decoder(patch_size=2, width=4, channels=2),
            "summariser": Summariser(width=4, heads=2),
            "head": ProjectionHead(width=4, hidden=4, bottleneck=3, prototypes=4),
        }
    ).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in parts.parameters():
        # far from the start's near-zero values, where every gradient would be tiny
        parameter.data.normal_(std=0.5, generator=generator)
    names, values = zip(*parts.named_parameters(), strict=True)
    volumes = torch.rand(1, 1, 4, 4, 2, dtype=torch.float64, generator=generator)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = parts

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = parts["encoder"](x)
            rebuilt = parts["decoder"](tokens, (2, 2, 1))
            logits = parts["head"](parts["summariser"](tokens))
            return torch.cat((rebuilt.flatten(), logits.flatten()))

    whole = Whole()

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = {f"parts.{n}": p for n, p in zip(names, parameters, strict=True)}
        result: torch.Tensor = functional_call(whole, named, (x,))
        return result

    inputs = [volumes, *(value.detach() for value in values)]
    for value in inputs:
        value.requires_grad_()
    assert torch.autograd.gradcheck(run, inputs)
