"""Masks by a threshold, metrics by counting."""

import numpy as np
import pytest

from nid_dist.tasks.video.decomposition.foreground import deviation, foreground_mask, noise_level
from nid_dist.tasks.video.metrics import best_detection, detection


def test_deviation_is_a_root_mean_square() -> None:
    np.testing.assert_allclose(deviation(np.array([[[3.0, 4.0]]])), [[np.sqrt(12.5)]])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_noise_is_found(channels: int) -> None:
    noise = 0.03 * np.random.default_rng(0).normal(size=(200, 200, channels))
    noise[:60] += 0.5  # what moves
    assert noise_level(float(np.median(deviation(noise[60:]))), channels) == pytest.approx(0.03, rel=0.03)


def test_what_stands_alone_is_noise_and_gaps_are_filled() -> None:
    left_over = np.zeros((9, 9, 1))
    left_over[1, 1] = 1
    left_over[4:8, 4:8] = -1
    left_over[5, 5] = 0
    expected = np.zeros((9, 9), bool)
    expected[4:8, 4:8] = True
    np.testing.assert_array_equal(foreground_mask(left_over, 0.1), expected)


def test_detection_by_hand() -> None:
    mask, truth = np.array([[True, True, False, False]]), np.array([[True, False, True, True]])
    found = detection([(mask, truth)], 0.3)
    assert found.precision == 1 / 2 and found.recall == 1 / 3 and found.f_measure == pytest.approx(2 / 5)
    assert detection([(mask & False, truth)], 0.3).f_measure == 0


def test_the_best_threshold() -> None:
    """Beyond 0.2 three of four are right, of all three: 6 / 7; beyond 0.3 two of two: 4 / 5."""
    deviations = np.array([[0.1, 0.25, 0.26, 0.35, 0.9, 0.05]])
    truth = np.array([[False, False, True, True, True, False]])
    best = best_detection([(deviations, truth)])
    assert best.f_measure == 1.0 and 0.25 < best.threshold <= 0.26
    worse = best_detection([(deviations, np.array([[False, True, False, True, True, False]]))])
    assert worse.f_measure == pytest.approx(6 / 7) and (worse.precision, worse.recall) == (3 / 4, 1)
