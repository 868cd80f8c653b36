"""How close an image is to the original: PSNR and SSIM, on arrays whose peak is 1."""

import math

import numpy as np
from jaxtyping import Float
from skimage.metrics import structural_similarity

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
_ROWS = 2**20  # pixels of a strip: an image of any size needs no more memory than its own


def psnr(estimate: Float[np.ndarray, "*shape"], target: Float[np.ndarray, "*shape"]) -> float:
    """Peak signal-to-noise ratio in decibels for a peak of 1, from the mean squared error over every pixel and channel.

    Nothing is clipped here: values outside [0, 1] count as the errors they are. A caller that reports on pictures as
    they are shown clips the estimate first, and does so for every method it compares. It is infinite where the two are
    identical.

    Raises:
        ValueError: the shapes differ (they would broadcast into a wrong figure) or are empty.
    """
    _require_same_shape(estimate, target)
    one, other = estimate.reshape(-1), target.reshape(-1)
    squares = (
        np.square(one[first : first + _ROWS].astype(np.float64) - other[first : first + _ROWS]).sum()
        for first in range(0, one.size, _ROWS)
    )
    mean_squared_error = float(sum(squares)) / one.size
    return math.inf if mean_squared_error == 0.0 else -10.0 * math.log10(mean_squared_error)


def ssim(estimate: Float[np.ndarray, "H W d"], target: Float[np.ndarray, "H W d"]) -> float:
    """Mean structural similarity, with the Gaussian window of the original paper.

    The window is 11 x 11 with a standard deviation of 1.5 pixels. An image with a side below 11 gets the largest odd
    window that fits it, with the standard deviation shrunk in proportion, so that the figure stays defined but is
    comparable only with images of the same size.

    Args:
        estimate: the reconstruction, [H, W, d], in units of the peak.

    Returns:
        The similarity, at most 1, averaged over positions and channels; not a number when a side is below 3 pixels,
        because a window of one pixel has no structure to compare.

    Raises:
        ValueError: the shapes differ or are empty.

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE Transactions on Image Processing 2004, equation 13 and section III.C.
    """
    _require_same_shape(estimate, target)
    side = min(SSIM_WINDOW, *target.shape[:2])
    window = side if side % 2 else side - 1
    if window < 3:
        return math.nan
    # Of a strip, as of the whole, those positions count whose window lies inside: together they are those of the whole.
    height, width = target.shape[:2]
    valid = height - (window - 1)
    rows = max(1, _ROWS // width)
    total = 0.0
    for first in range(0, valid, rows):
        own = min(rows, valid - first)
        strip = slice(first, first + own + window - 1)
        # scikit-image derives the kernel's radius from sigma alone, so sigma has to shrink for the window to shrink.
        similarity = structural_similarity(
            target[strip].astype(np.float64),
            estimate[strip].astype(np.float64),
            win_size=window,
            gaussian_weights=True,
            sigma=SSIM_SIGMA * window / SSIM_WINDOW,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
        )
        total += own * float(similarity)
    return total / valid


def _require_same_shape(estimate: np.ndarray, target: np.ndarray) -> None:
    if estimate.shape != target.shape or target.size == 0:
        raise ValueError(f"expected two arrays of one shape, not empty; found {estimate.shape} and {target.shape}")
