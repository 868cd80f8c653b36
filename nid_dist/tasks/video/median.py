"""The temporal median: the background is what a pixel shows most of the time, alone or times one gain a frame."""

import numpy as np
from jaxtyping import Float32

_PIXELS = 2**20  # of all frames at a time
_DARK = 0.05  # values below which a ratio says nothing


def temporal_median(frames: Float32[np.ndarray, "T H W d"]) -> Float32[np.ndarray, "H W d"]:
    """Median of every pixel and channel over time: one background for all frames, flicker is not followed."""
    flat = frames.reshape(len(frames), -1)
    step = max(1, _PIXELS // len(frames))
    parts = [np.median(flat[:, first : first + step], axis=0) for first in range(0, flat.shape[1], step)]
    return np.concatenate(parts).reshape(frames.shape[1:]).astype(np.float32)


def median_times_gain(frames: Float32[np.ndarray, "T H W d"]) -> Float32[np.ndarray, "T H W d"]:
    """The temporal median of frames at one brightness, times the brightness of each.

    A frame's gain is the median ratio to a median over time; that median is then taken anew.
    """
    gains = np.ones(len(frames), np.float32)
    for _ in range(2):
        middle = temporal_median(frames / gains[:, None, None, None])
        bright = middle > _DARK
        if bright.any():
            gains = np.array([np.median(frame[bright] / middle[bright]) for frame in frames], np.float32)
    return gains[:, None, None, None] * middle
