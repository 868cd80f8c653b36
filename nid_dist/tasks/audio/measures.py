"""How near a sound is to another, and what a fixed dictionary reaches: the discrete cosine transform of windows."""

import numpy as np
from jaxtyping import Float
from scipy.fft import dct, idct


def snr(found: Float[np.ndarray, "N d"], wave: Float[np.ndarray, "N d"]) -> float | None:
    """Signal-to-noise ratio: 10 log10 of the wave's energy over the error's, in dB, at most 200; None for silence."""
    energy = float(np.square(wave, dtype=np.float64).sum())
    error = float(np.square(found.astype(np.float64) - wave).sum())
    return None if energy == 0 else float(10 * np.log10(energy / max(error, 1e-20 * energy)))


def best_cosines(windows: Float[np.ndarray, "T C d"], k: int) -> Float[np.ndarray, "T C d"]:
    """Windows of their k largest coefficients of the orthonormal DCT-II and, as codes have biases, their means.

    The best approximation with k of these coefficients, over all channels; the choice of the k is not counted, as in a
    code's support.
    """
    coefficients = dct(windows.astype(np.float64), axis=1, norm="ortho")
    free = coefficients[:, :1].copy()
    coefficients[:, :1] = 0
    flat = coefficients.reshape(len(windows), -1)
    if k < flat.shape[1]:
        smallest = np.argpartition(np.abs(flat), flat.shape[1] - k, axis=1)[:, : flat.shape[1] - k]
        np.put_along_axis(flat, smallest, 0.0, axis=1)
    kept = flat.reshape(coefficients.shape)
    kept[:, :1] = free
    out: np.ndarray = idct(kept, axis=1, norm="ortho")
    return out
