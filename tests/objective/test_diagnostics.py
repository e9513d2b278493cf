"""The monitors' measures against loops written from their formulas.

Tolerances: all is computed in fp64; 1e-9 covers the different order of sums.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from volta3d.objective.diagnostics import (
    effective_rank,
    feature_std,
    icc,
    information,
    mean_offdiagonal_cosine,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def entropy(distribution: list[float]) -> float:
    return -sum(p * math.log(p) for p in distribution if p > 0)


def test_information_against_a_loop() -> None:
    p = (3 * draw(7, 5)).softmax(1)
    rows = p.tolist()
    mean = [sum(row[k] for row in rows) / 7 for k in range(5)]
    each = sum(entropy(row) for row in rows) / 7
    found = information(p)
    assert found["information"] == pytest.approx(entropy(mean) - each, abs=1e-9)
    assert found["teacher_entropy"] == pytest.approx(each / math.log(5), abs=1e-9)
    assert found["mean_entropy"] == pytest.approx(entropy(mean) / math.log(5), abs=1e-9)
    assert found["prototypes_used"] == len({row.index(max(row)) for row in rows})


def test_information_catches_both_collapses() -> None:
    uniform = information(torch.full((64, 16), 1 / 16))
    single = information(torch.eye(16)[torch.zeros(64, dtype=torch.long)])
    ideal = information(torch.eye(16).repeat(4, 1))
    assert uniform["information"] == pytest.approx(0, abs=1e-9)
    assert single["information"] == pytest.approx(0, abs=1e-9)
    assert uniform["teacher_entropy"] == pytest.approx(1)
    assert single["teacher_entropy"] == 0
    assert single["prototypes_used"] == 1
    assert ideal["information"] == pytest.approx(math.log(16))
    assert ideal["mean_entropy"] == pytest.approx(1)
    assert ideal["prototypes_used"] == 16


def test_information_refuses_other_shapes() -> None:
    for shape in ((0, 4), (4,), (4, 1)):
        with pytest.raises(ValueError, match=r"\[n, K\]"):
            information(torch.ones(shape))


def test_feature_std_against_a_loop() -> None:
    x = draw(6, 3)
    total = 0.0
    for column in x.T.tolist():
        mean = sum(column) / 6
        total += math.sqrt(sum((v - mean) ** 2 for v in column) / 5)
    assert feature_std(x) == pytest.approx(total / 3, abs=1e-9)
    assert math.isnan(feature_std(x[:1]))


def test_effective_rank_against_the_eigenvalues_of_the_covariance() -> None:
    x = draw(9, 4) * torch.tensor([5.0, 1.0, 0.3, 0.01])
    centred = x - x.mean(0)
    singular = [math.sqrt(v) for v in torch.linalg.eigvalsh(centred.T @ centred).tolist()]
    shares = [s / sum(singular) for s in singular]
    assert effective_rank(x) == pytest.approx(math.exp(entropy(shares)), abs=1e-7)


def test_effective_rank_of_known_sets() -> None:
    line = draw(20, 1) @ draw(1, 8, seed=1)
    assert effective_rank(line.float()) == pytest.approx(1, abs=1e-3)
    # opposite unit vectors: centred, all singular values sqrt(2)
    crosses = torch.cat([torch.eye(6), -torch.eye(6)])
    assert effective_rank(crosses) == pytest.approx(6, abs=1e-6)


def test_effective_rank_of_identical_features_is_zero_despite_rounding() -> None:
    same = draw(1, 50).float().repeat(30, 1) * (1 + 1e-8 * draw(30, 50)).float()
    assert effective_rank(same) == 0
    assert effective_rank(torch.zeros(5, 3)) == 0


def test_mean_cosine_against_a_loop() -> None:
    x = draw(6, 4) + 1
    rows, total = x.tolist(), 0.0
    for i in range(6):
        for j in range(6):
            if i != j:
                dot = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
                total += dot / (math.hypot(*rows[i]) * math.hypot(*rows[j]))
    assert mean_offdiagonal_cosine(x) == pytest.approx(total / 30, abs=1e-9)
    assert math.isnan(mean_offdiagonal_cosine(x[:1]))


def test_icc_against_a_loop() -> None:
    x = draw(3, 5, 2) + 0.8 * draw(1, 5, 2, seed=1)
    views, n, d = 3, 5, 2
    between = within = 0.0
    for k in range(d):
        values = x[:, :, k].tolist()
        scan = [sum(values[v][i] for v in range(views)) / views for i in range(n)]
        grand = sum(scan) / n
        between += views * sum((s - grand) ** 2 for s in scan)
        within += sum((values[v][i] - scan[i]) ** 2 for v in range(views) for i in range(n))
    between, within = between / (n - 1), within / (n * (views - 1))
    expected = (between - within) / (between + (views - 1) * within)
    assert icc(x) == pytest.approx(expected, abs=1e-9)


def test_icc_of_known_sets() -> None:
    scans = draw(40, 16)
    assert icc(torch.stack([scans, scans])) == pytest.approx(1)
    # 640 pairs of independent numbers: the standard error of an ICC of 0 is 1/sqrt(640) = .04
    assert icc(draw(2, 40, 16)) == pytest.approx(0, abs=0.13)
    # between-scan and within-scan variance both 1: the expectation is one half
    mixed = draw(400, 16) + draw(2, 400, 16, seed=1)
    assert icc(mixed) == pytest.approx(0.5, abs=0.05)
    assert math.isnan(icc(torch.ones(2, 4, 3)))
    with pytest.raises(ValueError, match="views"):
        icc(draw(1, 4, 3))
