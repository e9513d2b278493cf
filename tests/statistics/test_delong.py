"""DeLong's test against an implementation written from the definition."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from volta3d.statistics.delong import delong, delong_in_folds, delong_test


def psi(x: float, y: float) -> float:
    """1, 1/2, 0 as the positive case scores higher, equal, lower."""
    return 1.0 if x > y else 0.5 if x == y else 0.0


def by_definition(
    positive: list[bool], arms: list[list[float]]
) -> tuple[list[float], list[list[float]]]:
    """Sen's structural components and their covariance, term by term (DeLong 1988, eq. 4-6)."""
    ones = [i for i, p in enumerate(positive) if p]
    zeros = [i for i, p in enumerate(positive) if not p]
    m, n = len(ones), len(zeros)
    aucs = [sum(psi(a[i], a[j]) for i, j in product(ones, zeros)) / (m * n) for a in arms]
    v10 = [[sum(psi(a[i], a[j]) for j in zeros) / n for i in ones] for a in arms]
    v01 = [[sum(psi(a[i], a[j]) for i in ones) / m for j in zeros] for a in arms]
    k = range(len(arms))

    def s(v: list[list[float]], r: int, c: int) -> float:
        pairs = zip(v[r], v[c], strict=True)
        return sum((x - aucs[r]) * (y - aucs[c]) for x, y in pairs) / (len(v[r]) - 1)

    covariance = [[s(v10, r, c) / m + s(v01, r, c) / n for c in k] for r in k]
    return aucs, covariance


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=14
    ),
    st.integers(2, 12),
)
def test_X15_delong_against_the_definition_with_ties(
    scores: list[tuple[int, int, int]], ones: int
) -> None:
    ones = min(ones, len(scores) - 2)
    positive = [i < ones for i in range(len(scores))]
    arms = [[float(row[k]) for row in scores] for k in range(3)]
    aucs, covariance = delong(np.array(positive), [np.array(a) for a in arms])
    wanted, wanted_covariance = by_definition(positive, arms)
    # sums of at most 14 terms in float64
    assert np.allclose(aucs, wanted, atol=1e-12)
    assert np.allclose(covariance, wanted_covariance, atol=1e-12)
    difference, z, p = delong_test(np.array(positive), np.array(arms[0]), np.array(arms[1]))
    variance = wanted_covariance[0][0] + wanted_covariance[1][1] - 2 * wanted_covariance[0][1]
    assert difference == pytest.approx(wanted[0] - wanted[1], abs=1e-12)
    if variance > 1e-12:
        assert z == pytest.approx((wanted[0] - wanted[1]) / math.sqrt(variance), rel=1e-6)
        assert p == pytest.approx(2 * (1 - norm.cdf(abs(z))), abs=1e-12)


def test_its_variance_is_that_of_repeated_experiments() -> None:
    """The variance estimated is, on average, the variance seen."""
    rng = np.random.default_rng(0)
    differences, variances = [], []
    positive = np.arange(60) < 25
    for _ in range(400):
        truth = positive * 1.0
        common = rng.normal(size=60)
        first = truth + common + rng.normal(size=60)
        second = 0.6 * truth + common + rng.normal(size=60)
        aucs, covariance = delong(positive, [first, second])
        differences.append(aucs[0] - aucs[1])
        variances.append(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # 400 experiments tell a variance to about 7 %
    assert np.mean(variances) == pytest.approx(np.var(differences), rel=0.2)


def test_X15_several_scans_of_a_person_against_obuchowski_term_by_term() -> None:
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(12), [1, 3, 2, 1, 5, 2, 1, 1, 4, 2, 3, 1])
    positive = people % 2 == 0
    positive[people == 5] = [True, False]  # somebody who fell ill between two scans
    arms = [np.round(rng.normal(size=len(people)) + positive, 1) for _ in range(2)]
    aucs, covariance = delong(positive, arms, people)
    wanted, _ = by_definition(positive.tolist(), [a.tolist() for a in arms])
    assert np.allclose(aucs, wanted, atol=1e-12)
    ones, zeros = np.flatnonzero(positive), np.flatnonzero(~positive)
    m, n, everybody = len(ones), len(zeros), sorted(set(people.tolist()))
    with_one = len({people[i] for i in ones})
    with_zero = len({people[j] for j in zeros})
    x = [
        [sum(np.mean([psi(a[i], a[j]) for j in zeros]) - t for i in ones if people[i] == p)
         for p in everybody]
        for a, t in zip(arms, wanted, strict=True)
    ]  # fmt: skip
    y = [
        [sum(np.mean([psi(a[i], a[j]) for i in ones]) - t for j in zeros if people[j] == p)
         for p in everybody]
        for a, t in zip(arms, wanted, strict=True)
    ]  # fmt: skip
    total = len(everybody)
    for r in range(2):
        for c in range(2):
            s10 = (
                with_one
                / ((with_one - 1) * m)
                * sum(a * b for a, b in zip(x[r], x[c], strict=True))
            )
            s01 = (
                with_zero
                / ((with_zero - 1) * n)
                * sum(a * b for a, b in zip(y[r], y[c], strict=True))
            )
            s11 = (
                total
                / (total - 1)
                * sum(a * b + d * e for a, b, d, e in zip(x[r], y[c], y[r], x[c], strict=True))
            )
            assert covariance[r, c] == pytest.approx(s10 / m + s01 / n + s11 / (m * n), abs=1e-12)


def test_copies_of_a_scan_add_no_certainty() -> None:
    """The variance of people measured eight times, each time alike, is that of people."""
    rng = np.random.default_rng(4)
    positive = np.arange(40) < 15
    first, second = (rng.normal(size=40) + positive for _ in range(2))
    once = delong_test(positive, first, second)
    eight = [np.repeat(v, 8) for v in (positive, first, second, np.arange(40))]
    often = delong_test(*eight)
    assert often == pytest.approx(once, rel=0.05)  # sample variances over 15 and 25, with k/(k-1)
    alone = delong_test(*eight[:3])
    assert abs(alone[1]) > 2.5 * abs(once[1])  # taken as 320 people: eight times the certainty


def test_seeds_are_averaged_before_anything_else() -> None:
    rng = np.random.default_rng(1)
    positive = np.arange(20) < 8
    scores = rng.normal(size=(3, 20)) + positive
    aucs, covariance = delong(positive, [scores, scores[:1]])
    assert aucs[0] == pytest.approx(np.mean([delong(positive, [s])[0][0] for s in scores]))
    _, parts = delong(positive, list(scores))
    assert covariance[0, 0] == pytest.approx(parts.mean())  # variance of a mean of three


def test_arms_that_rank_alike_do_not_differ() -> None:
    positive = np.arange(10) < 4
    scores = np.random.default_rng(0).normal(size=10)
    assert delong_test(positive, scores, np.exp(scores)) == (0.0, 0.0, 1.0)
    perfect = positive * 1.0
    assert delong_test(positive, perfect, 1 - perfect)[2] == 0.0


def test_T6_one_class_has_no_auroc() -> None:
    aucs, covariance = delong(np.ones(5, bool), [np.arange(5.0)])
    assert np.isnan(aucs).all() and np.isnan(covariance).all()
    aucs, covariance = delong(np.arange(5) < 1, [np.arange(5.0)])
    assert aucs[0] == 0.0 and np.isnan(covariance).all()
    assert math.isnan(delong_test(np.arange(5) < 1, np.arange(5.0), np.ones(5))[2])


def test_within_folds_it_is_the_mean_of_the_folds_tests() -> None:
    """Against the definition, fold by fold; a fold of one class counts for nothing."""
    rng = np.random.default_rng(5)
    folds = np.repeat(np.arange(4), 15)
    positive = rng.random(60) < 0.4
    positive[folds == 3] = False
    first, second = (np.round(rng.normal(size=60) + s * positive, 1) for s in (1.5, 0.2))
    gaps, variances = [], []
    for fold in range(3):
        here = folds == fold
        aucs, s = by_definition(
            positive[here].tolist(), [first[here].tolist(), second[here].tolist()]
        )
        gaps.append(aucs[0] - aucs[1])
        variances.append(s[0][0] + s[1][1] - 2 * s[0][1])
    difference, z, p = delong_in_folds(positive, first, second, folds)
    assert difference == pytest.approx(np.mean(gaps), abs=1e-12)
    assert z == pytest.approx(np.mean(gaps) / math.sqrt(sum(variances) / 9), rel=1e-9)
    assert p == pytest.approx(2 * (1 - norm.cdf(abs(z))), abs=1e-12)
    # a level of its own for every fold changes nothing, as it does for the pooled test
    moved = second + 10 * folds
    assert delong_in_folds(positive, first, moved, folds) == pytest.approx((difference, z, p))
    assert abs(delong_test(positive, first, moved)[0] - difference) > 0.05
    assert all(map(math.isnan, delong_in_folds(positive & False, first, second, folds)))


def test_within_folds_its_variance_is_that_of_repeated_experiments() -> None:
    rng = np.random.default_rng(6)
    positive, folds = np.arange(120) % 5 < 2, np.arange(120) // 24
    told, seen = [], []
    for _ in range(300):
        common = rng.normal(size=120)
        first, second = (s * positive + common + rng.normal(size=120) for s in (1.0, 0.6))
        difference, z, _ = delong_in_folds(positive, first, second, folds)
        told.append((difference / z) ** 2)
        seen.append(difference)
    assert np.mean(told) == pytest.approx(np.var(seen), rel=0.25)  # 300 experiments: about 8 %
