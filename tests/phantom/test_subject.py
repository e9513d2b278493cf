"""Who the subjects are: balance, range, independence of one another."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from volta3d.phantom.effects import VENTRICLE_PER_YEAR
from volta3d.phantom.subject import ATROPHY, BLOCK, CONTROL, Subject, draw_subject, make_subject
from volta3d.randomness import numpy_generator


def test_every_block_is_balanced() -> None:
    for block in range(4):
        drawn = [draw_subject(block * BLOCK + n + 1, 0) for n in range(BLOCK)]
        counts = Counter((s.sex, s.site, s.diagnosis) for s in drawn)
        for sex, site in itertools.product("MF", ("siteA", "siteB")):
            assert counts[sex, site, CONTROL] == 2
            assert counts[sex, site, ATROPHY] == 1


def test_ages_are_spread_over_the_range() -> None:
    ages = sorted(draw_subject(n + 1, 1).age for n in range(BLOCK))
    width = 65 / BLOCK
    for stratum, age in enumerate(ages):
        assert 20 + stratum * width - 0.05 <= age <= 20 + (stratum + 1) * width + 0.05


def test_order_differs_between_blocks_and_seeds() -> None:
    def traits(first: int, seed: int) -> list[tuple[str, str, str]]:
        drawn = [draw_subject(first + n, seed) for n in range(BLOCK)]
        return [(s.sex, s.site, s.diagnosis) for s in drawn]

    assert traits(1, 0) != traits(1 + BLOCK, 0)
    assert traits(1, 0) != traits(1, 1)
    assert traits(1, 0) == traits(1, 0)


def test_stated_effects_in_a_large_sample() -> None:
    drawn = [draw_subject(n + 1, 7) for n in range(100 * BLOCK)]
    heads = {sex: [s.head_scale for s in drawn if s.sex == sex] for sex in "MF"}
    # Standard errors: .02 / sqrt(600) < .001 for the head.
    assert np.mean(heads["M"]) == pytest.approx(1.0, abs=0.003)
    assert np.mean(heads["F"]) == pytest.approx(0.96, abs=0.003)
    assert np.std(heads["M"]) == pytest.approx(0.02, rel=0.15)
    atrophy = np.array([s.diagnosis == ATROPHY for s in drawn])
    age = np.array([s.age for s in drawn])
    right, left, ventricle = np.array([s.log_factors for s in drawn]).T
    design = np.stack([age - 20, atrophy, np.ones_like(age)], axis=1)
    for side in (right, left):  # standard error .085 / sqrt(400) = .004, .00013 a year
        (slope, shift, intercept), rest = np.linalg.lstsq(design, side, rcond=None)[:2]
        assert slope == pytest.approx(-0.0018, abs=0.0005)
        assert shift == pytest.approx(math.log(0.70), abs=0.02)
        assert intercept == pytest.approx(0.0, abs=0.02)
        assert math.sqrt(rest[0] / len(age)) == pytest.approx(math.hypot(0.08, 0.03), rel=0.15)
    slope, shift, intercept = np.linalg.lstsq(design, ventricle, rcond=None)[0]
    assert slope == pytest.approx(VENTRICLE_PER_YEAR, abs=0.001)
    assert shift == pytest.approx(math.log(1.80), abs=0.04)
    assert intercept == pytest.approx(math.log(0.7), abs=0.04)
    grey = np.array([s.grey_factor for s in drawn])
    (slope, shift, intercept), rest = np.linalg.lstsq(design, grey, rcond=None)[:2]
    assert slope == pytest.approx(-0.003, abs=0.0001)
    assert shift == pytest.approx(-0.08, abs=0.005)
    assert intercept == pytest.approx(1.0, abs=0.005)
    assert math.sqrt(rest[0] / len(age)) == pytest.approx(0.015, rel=0.15)


def test_the_same_person_older_and_more_ill_differs_by_the_effects_alone() -> None:
    def at(age: float, atrophy: float) -> Subject:
        own = numpy_generator(0, "somebody")
        return make_subject(1, "x", own, age, "F", "siteA", "", atrophy)

    young, half, ill = at(60, 0), at(60, 0.5), at(70, 1)
    assert young.head_scale == half.head_scale == ill.head_scale
    right, ventricle = (ill.log_factors[n] - young.log_factors[n] for n in (0, 2))
    assert right == pytest.approx(math.log(0.70) - 10 * 0.0018)
    assert ventricle == pytest.approx(math.log(1.80) + 10 * VENTRICLE_PER_YEAR)
    assert half.log_factors[0] - young.log_factors[0] == pytest.approx(math.log(0.70) / 2)
    assert ill.grey_factor - young.grey_factor == pytest.approx(-0.08 - 10 * 0.003)
