"""Who a synthetic subject is: balanced by design, a pure function of (seed, number)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from volta3d.phantom import effects
from volta3d.randomness import numpy_generator

CONTROL = "control"
ATROPHY = "synthetic-atrophy"

# Every run of twelve subjects holds each combination once; a third has atrophy.
_CELLS = list(itertools.product(("M", "F"), ("siteA", "siteB"), (CONTROL, CONTROL, ATROPHY)))
BLOCK = len(_CELLS)


@dataclass(frozen=True)
class Subject:
    """One synthetic subject and the true size of everything that was done to it.

    Attributes:
        name: BIDS participant id, e.g. ``sub-SYN001``.
        age: years.
        head_scale: linear size of the head relative to the template.
        log_factors: log volume relative to the template, in the order of ``effects.STRUCTURES``,
            before the head is scaled.
        grey_factor: grey-matter volume relative to the template, before the head is scaled.
    """

    number: int
    name: str
    age: float
    sex: str
    site: str
    diagnosis: str
    head_scale: float
    log_factors: tuple[float, float, float]
    grey_factor: float


def draw_subject(number: int, seed: int) -> Subject:
    """The subject of this ``number`` (from 1 on); subjects drawn before or after do not matter."""
    block, place = divmod(number - 1, BLOCK)
    shared = numpy_generator(seed, "phantom", "block", block)
    sex, site, diagnosis = _CELLS[shared.permutation(BLOCK)[place]]
    stratum = shared.permutation(BLOCK)[place]  # ages are spread evenly over each block
    own = numpy_generator(seed, "phantom", "subject", number)
    youngest, oldest = effects.AGES
    age = round(youngest + (oldest - youngest) * (stratum + own.uniform()) / BLOCK, 1)
    atrophy = float(diagnosis == ATROPHY)
    return make_subject(number, f"sub-SYN{number:03d}", own, age, sex, site, diagnosis, atrophy)


def make_subject(
    number: int,
    name: str,
    own: np.random.Generator,
    age: float,
    sex: str,
    site: str,
    diagnosis: str,
    atrophy: float,
) -> Subject:
    """A subject with given age, sex and atrophy, the rest drawn from ``own``.

    Args:
        number: that keys anatomy and noise.
        own: the same state gives the same person, older or more ill.
        atrophy: 0 none, 1 all of it; shares between scale the logarithm of its factors.
    """
    head = effects.HEAD_FEMALE if sex == "F" else 1.0
    both, right, left, fluid, size, grey = own.standard_normal(6)
    hippocampus = (
        math.log(effects.hippocampus_factor(age, atrophy)) + effects.HIPPOCAMPUS_DEVIATION * both
    )
    ventricles = (
        math.log(effects.ventricle_factor(age, atrophy)) + effects.VENTRICLE_DEVIATION * fluid
    )
    return Subject(
        number=number,
        name=name,
        age=age,
        sex=sex,
        site=site,
        diagnosis=diagnosis,
        head_scale=float(head + effects.HEAD_DEVIATION * size),
        log_factors=(
            float(hippocampus + effects.SIDE_DEVIATION * right),
            float(hippocampus + effects.SIDE_DEVIATION * left),
            float(ventricles),
        ),
        grey_factor=float(effects.grey_factor(age, atrophy) + effects.GREY_DEVIATION * grey),
    )
