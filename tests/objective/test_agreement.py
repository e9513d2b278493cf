"""Retrieval and the advantage of a scan's own view, against loops."""

from __future__ import annotations

import math

import pytest
import torch

from volta3d.objective.diagnostics import advantage, retrieval


def features(n: int, shared: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    scans = torch.randn(1, n, 8, generator=generator)
    return shared * scans + torch.randn(2, n, 8, generator=generator) + 5.0


@pytest.mark.parametrize("shared", [0.0, 1.0, 10.0])
def test_retrieval_equals_a_loop(shared: float) -> None:
    x = features(9, shared).double()
    flat = [x[v, i] - x.flatten(0, 1).mean(0) for v in range(2) for i in range(9)]
    hits = 0
    for a, mine in enumerate(flat):
        cosines = [
            float(mine @ other / mine.norm() / other.norm()) if b != a else -2.0
            for b, other in enumerate(flat)
        ]
        hits += cosines.index(max(cosines)) == (a + 9) % 18
    assert retrieval(x.float()) == pytest.approx(hits / 18)


def test_retrieval_goes_from_chance_to_one() -> None:
    assert retrieval(features(200, 0.0)) < 0.05
    assert retrieval(features(200, 10.0)) > 0.95
    assert math.isnan(retrieval(features(1, 1.0)))
    with pytest.raises(ValueError, match="wanted features"):
        retrieval(torch.zeros(3, 4, 5))


def test_advantage_equals_a_loop() -> None:
    p = features(6, 1.0).double().softmax(-1)

    def entropy(a: torch.Tensor, b: torch.Tensor) -> float:
        return -float((a * b.log()).sum())

    both = [[(entropy(p[0, i], p[1, j]) + entropy(p[1, j], p[0, i])) / 2 for j in range(6)]
            for i in range(6)]  # fmt: skip
    within = [both[i][i] for i in range(6)]
    between = [sum(both[i][j] + both[j][i] for j in range(6) if j != i) / 10 for i in range(6)]
    gain = torch.tensor([b - w for w, b in zip(within, between, strict=True)], dtype=torch.float64)
    found = advantage(p.log())
    assert found[0] == pytest.approx(sum(within) / 6)
    assert found[1] == pytest.approx(sum(between) / 6)
    assert found[2] == pytest.approx(float(gain.mean() / gain.std() * math.sqrt(6)))


def test_answers_that_differ_at_random_have_no_advantage() -> None:
    noise = 20 * torch.randn(2, 100, 32, generator=torch.Generator().manual_seed(1))
    assert abs(advantage(noise.log_softmax(-1))[2]) < 3
    same = noise[:1].expand(2, -1, -1) + 0.1 * torch.randn(2, 100, 32)
    assert advantage(same.log_softmax(-1))[2] > 10


def test_sharp_answers_stay_finite() -> None:
    sharp = torch.full((2, 3, 4), -1e6)
    sharp[:, range(3), range(3)] = 0.0
    within, between, _ = advantage(sharp)
    assert within == 0.0 and math.isfinite(between) and between > 100
    assert all(math.isnan(value) for value in advantage(torch.zeros(2, 1, 4)))
    with pytest.raises(ValueError, match="wanted log p"):
        advantage(torch.zeros(4, 5))
