"""What a column is: numbers or classes."""

from __future__ import annotations

import math

import numpy as np

from volta3d.statistics.targets import Target


def test_target_kinds() -> None:
    assert Target.read(np.array([20.5, 30.0, 30.1])).classes == ()
    assert Target.read(np.array([0.0, 1.0, 1.0])).classes == ("0.0", "1.0")
    assert Target.read(np.array(["AD", "", "CN", "AD"], object)).classes == ("AD", "CN")
    assert Target.read(np.array([str(v) for v in range(20)], object)).classes == ()
    assert Target.read(np.array([str(v % 3) for v in range(20)], object)).classes == ("0", "1", "2")
    read = Target.read(np.array(["M", None, math.nan, "F"], object))
    assert read.known.tolist() == [True, False, False, True]
    assert read.values.tolist() == [1.0, 0.0]
