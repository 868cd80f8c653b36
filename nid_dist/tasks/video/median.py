"""The temporal median: the background is what a pixel shows most of the time."""

import numpy as np
from jaxtyping import Float32

_PIXELS = 2**20  # of all frames at a time


def temporal_median(frames: Float32[np.ndarray, "T H W d"]) -> Float32[np.ndarray, "H W d"]:
    """Median of every pixel and channel over time: one background for all frames, flicker is not followed."""
    flat = frames.reshape(len(frames), -1)
    step = max(1, _PIXELS // len(frames))
    parts = [np.median(flat[:, first : first + step], axis=0) for first in range(0, flat.shape[1], step)]
    return np.concatenate(parts).reshape(frames.shape[1:]).astype(np.float32)
