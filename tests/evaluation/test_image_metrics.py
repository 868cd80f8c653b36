"""PSNR against values by hand, SSIM against a direct evaluation of the paper's formula."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from nid_dist.evaluation import image_metrics
from nid_dist.evaluation.image_metrics import psnr, ssim


def image(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


@pytest.mark.parametrize(
    ("error", "decibels"),
    [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0), (0.5, 6.020599913279624), (-2.0, -6.020599913279624)],
)
def test_psnr_of_a_constant_error(error: float, decibels: float) -> None:
    target = np.zeros((3, 4, 3))
    assert psnr(target + error, target) == pytest.approx(decibels, abs=1e-9)


def test_psnr_averages_squares_over_all_values_before_the_logarithm() -> None:
    target = np.zeros((2, 1, 2))
    estimate = np.array([[[0.0, 0.0]], [[0.0, 0.2]]])
    assert psnr(estimate, target) == pytest.approx(20.0)


def test_psnr_of_the_same_image_is_infinite() -> None:
    assert psnr(image(4, 5, 3), image(4, 5, 3)) == math.inf


def test_psnr_keeps_precision_of_float32_images() -> None:
    target = np.full((100, 100, 3), 0.5, dtype=np.float32)
    estimate = target.copy()
    estimate[0, 0, 0] += 2.0**-10
    expected = -10 * math.log10(2.0**-20 / 30000)
    assert psnr(estimate, target) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_empty_images_are_refused(metric) -> None:
    with pytest.raises(ValueError, match="not empty"):
        metric(np.zeros((0, 4, 3)), np.zeros((0, 4, 3)))


def ssim_by_formula(first: np.ndarray, second: np.ndarray, window: int) -> float:
    """Equation 13 of Wang et al. at each position where the whole window lies inside, one position at a time."""
    offsets = np.arange(window) - window // 2
    bell = np.exp(-0.5 * (offsets / (1.5 * window / 11)) ** 2)
    weights = np.outer(bell, bell) / bell.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for channel in range(first.shape[2]):
        for row in range(first.shape[0] - window + 1):
            for column in range(first.shape[1] - window + 1):
                place = (slice(row, row + window), slice(column, column + window), channel)
                x, y = first[place].astype(float), second[place].astype(float)
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                covariance = (weights * (x - mx) * (y - my)).sum()
                luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
                values.append(luminance * (2 * covariance + c2) / (vx + vy + c2))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("height", "width", "channels", "window"),
    [(16, 13, 3, 11), (11, 11, 1, 11), (10, 20, 3, 9), (20, 8, 1, 7), (5, 5, 3, 5), (4, 4, 3, 3), (3, 30, 1, 3)],
)
def test_ssim_is_the_formula(height: int, width: int, channels: int, window: int) -> None:
    target = image(height, width, channels)
    estimate = np.clip(target + 0.2 * image(height, width, channels, seed=1) - 0.1, 0, 1)
    assert ssim(estimate, target) == pytest.approx(ssim_by_formula(estimate, target, window), abs=1e-9)


@pytest.mark.parametrize("side", [3, 6, 16])
def test_ssim_of_the_same_image_is_one(side: int) -> None:
    assert ssim(image(side, side, 3), image(side, side, 3)) == pytest.approx(1.0, abs=1e-12)


def test_ssim_of_constant_images_is_the_luminance_term() -> None:
    dark, bright = np.full((12, 12, 1), 0.2), np.full((12, 12, 1), 0.6)
    assert ssim(dark, bright) == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4), abs=1e-9)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 64), (64, 2), (2, 2)])
def test_ssim_without_a_window_is_not_a_number(height: int, width: int) -> None:
    assert math.isnan(ssim(image(height, width, 3), image(height, width, 3)))


@pytest.mark.parametrize("rows", [1, 7 * 60, 30 * 60, 2**20])
def test_strips_change_no_figure(monkeypatch, rows):
    generator = np.random.default_rng(3)
    one, other = (generator.random((50, 60, 3)).astype(np.float32) for _ in range(2))
    expected = structural_similarity(
        one.astype(np.float64),
        other.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=2,
    )
    monkeypatch.setattr(image_metrics, "_ROWS", rows)
    assert image_metrics.ssim(other, one) == pytest.approx(expected, rel=1e-12)
    assert image_metrics.psnr(other, one) == pytest.approx(
        -10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)), rel=1e-12
    )
