"""The moving average of weights: its formula, what is judged by it, and resuming with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from volta3d.downstream.segmentation.average import averaged, follow
from volta3d.downstream.segmentation.checkpoint import Kept, load_kept, save_kept
from volta3d.downstream.segmentation.memory_layout import fast_layout


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 1))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_that_of_the_formula(decay: float) -> None:
    net = network()
    average = averaged(net)
    wanted = {k: v.detach().double() for k, v in net.named_parameters()}
    for step in range(30):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        net.train()(torch.randn(2, 1, 4, 4, 4))  # moves the running means
        follow(average, net, decay=decay, step=step)
        d = min(decay, (1 + step) / (10 + step))
        for name, value in net.named_parameters():
            wanted[name] = d * wanted[name] + (1 - d) * value.detach().double()
    for name, value in average.named_parameters():
        assert not value.requires_grad
        torch.testing.assert_close(value.double(), wanted[name], rtol=1e-5, atol=1e-5)  # fp32
    for own, other in zip(average.buffers(), net.buffers(), strict=True):
        assert torch.equal(own, other)


def test_weights_that_stay_are_their_own_average_to_the_bit() -> None:
    """A frozen encoder's, for example."""
    net = network()
    average = averaged(net)
    for step in range(20):
        follow(average, net, decay=0.99, step=step)
    assert all(
        torch.equal(a, b) for a, b in zip(average.parameters(), net.parameters(), strict=True)
    )


def test_the_copy_lies_in_memory_as_the_network_does() -> None:
    average = averaged(fast_layout(network()))
    weight = average[0].weight  # type: ignore[index]
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_checkpoint_brings_the_average_back(tmp_path: Path) -> None:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    average = averaged(network(1))
    save_kept(tmp_path, net, optimizer, Kept(epoch=3), {"a": 1}, average)
    other, mean = network(2), averaged(network(3))
    kept = load_kept(tmp_path, other, torch.optim.AdamW(other.parameters()), {"a": 1}, mean)
    assert kept.epoch == 3
    for first, second in ((net, other), (average, mean)):
        one, two = first.state_dict(), second.state_dict()
        assert all(torch.equal(one[k], two[k]) for k in one)
