"""Calibration against a loop over bins."""

from __future__ import annotations

import numpy as np
import pytest

from volta3d.statistics.calibration import calibration_curve, calibration_error
from volta3d.statistics.scores import Predictions


def test_calibration_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200)
    truth = (rng.random(200) < p**2) * 1.0
    nothing = np.full(200, np.nan)
    tested = Predictions(truth, np.stack([1 - p, p], 1), np.zeros(200, int), nothing, nothing)
    error = 0.0
    for b in range(10):
        inside = [i for i in range(200) if b / 10 <= p[i] < (b + 1) / 10]
        if inside:
            gap = abs(sum(truth[i] for i in inside) - sum(p[i] for i in inside))
            error += gap / 200
    assert calibration_error(tested, np.ones((1, 200)))[0] == pytest.approx(error)
    curve = calibration_curve(tested)
    assert sum(b.n for b in curve) == 200 and curve[9].predicted > 0.9
    weights = np.ones((1, 200))
    weights[0, :50] = 2  # a scan drawn twice counts twice
    twice = np.concatenate([np.arange(200), np.arange(50)])
    again = Predictions(
        truth[twice], tested.scores[twice], np.zeros(250, int), nothing[twice], nothing[twice]
    )
    assert calibration_error(tested, weights)[0] == pytest.approx(
        calibration_error(again, np.ones((1, 250)))[0]
    )
