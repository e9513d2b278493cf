"""Surfaces as pictures: seen from the side that is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from volta3d.evaluate.segmentation.surface_render import GREY, picture


def two_boxes() -> tuple[np.ndarray, np.ndarray]:
    """Two boxes in a RAS volume, left and right, and the same with the right one shrunk."""
    truth = np.zeros((60, 40, 30), bool)
    truth[8:18, 8:32, 10:20] = truth[42:52, 8:32, 10:20] = True
    found = truth.copy()
    found[42:52] = False
    found[42:52, 14:28, 12:18] = True
    return truth, found


def test_each_side_is_seen_from_its_own_side() -> None:
    truth, found = two_boxes()
    assert np.allclose(picture(truth, truth, 1.0), picture(found, truth, 1.0))
    right = picture(truth, truth, 1.0, "right")
    assert not np.allclose(right, picture(found, truth, 1.0, "right"))


def test_the_front_is_on_the_left_from_the_left_and_on_the_right_from_the_right() -> None:
    mask = np.zeros((20, 40, 30), bool)
    mask[5:15, 28:36, 10:20] = True  # in front
    for side, in_front in (("left", slice(0, 60)), ("right", slice(60, 120))):
        met = (picture(mask, mask, 1.0, side) < 0.999).any(2)
        assert met.any() and met[:, in_front].sum() == met.sum()
    left, right = picture(mask, mask, 1.0), picture(mask, mask, 1.0, "right")
    assert np.allclose(left, right[:, ::-1])


def test_colours_tell_outside_from_inside_and_nothing_is_white() -> None:
    truth = np.zeros((30, 30, 30), bool)
    truth[10:20, 10:20, 10:20] = True
    larger, smaller = np.zeros_like(truth), np.zeros_like(truth)
    larger[6:24, 6:24, 6:24] = smaller[13:17, 13:17, 13:17] = True
    middle = (45, 45)
    red, _, blue = picture(larger, truth, 1.0)[middle]
    assert red > 4 * blue
    red, _, blue = picture(smaller, truth, 1.0)[middle]
    assert blue > 4 * red
    same = picture(truth, truth, 1.0)[middle]
    assert same / same[0] == pytest.approx([1, 1, 1], abs=0.2) and same[0] <= GREY[0]
    empty = np.zeros_like(truth)
    assert (picture(empty, truth, 1.0) == 1).all()
    red, _, blue = picture(truth, empty, 1.0)[middle]  # invented
    assert red > 4 * blue
