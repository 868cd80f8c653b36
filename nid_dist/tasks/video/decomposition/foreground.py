"""What is foreground: where a frame differs from the background by more than noise does."""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter

THRESHOLD = 2.75
"""In standard deviations of the noise; of normal noise few pixels are beyond, and they stand alone."""


def deviation(left_over: Float[np.ndarray, "*T H W d"]) -> Float[np.ndarray, "*T H W"]:
    """Root mean square over the channels of a frame less its background."""
    return np.sqrt(np.square(left_over).mean(-1))


def foreground_mask(
    left_over: Float[np.ndarray, "H W d"], noise: float | Float[np.ndarray, "H W"]
) -> Bool[np.ndarray, "H W"]:
    """Where something is in front of the background, in a frame less its background.

    `noise` is the standard deviation of a channel where nothing moves, of all pixels or of each. Pixels whose deviation
    is beyond the threshold count, except those that stand alone, and the gaps between them: of the 3 x 3 pixels around
    it, 3 must be beyond for one that is, and 6 for one that is not.
    """
    beyond = deviation(left_over) > THRESHOLD * noise
    votes = 9 * uniform_filter(beyond.astype(np.float32), 3, mode="nearest")
    kept: Bool[np.ndarray, "H W"] = votes > np.where(beyond, 2.5, 5.5)
    return kept


def noise_level(middle: float, channels: int) -> float:
    """Standard deviation of a channel's normal noise, from `middle`, the median over pixels of their `deviation`.

    It is that median over the root of the median of chi squared / d, by the approximation of Wilson and Hilferty. What
    moves does not matter to a median while it covers less than half.
    """
    return middle / math.sqrt((1 - 2 / (9 * channels)) ** 3)
