"""Whether the camera moves: parts of a frame that show, some pixels further, what the frame before showed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

_BLOCKS = 3  # parts of a frame along its shorter side
_SIDE = 192  # pixels that a frame's shorter side has at most, where it is looked at
_LAGS = (1, 4, 16, 64)  # frames, over which the camera may have moved
_LOOKS = 7  # pairs of frames at each
_BETTER = 0.7  # of what is left over where nothing is moved, that a move has to leave at most
_SHARE = 0.5  # of the parts with structure that have moved, in half of the pairs
_STRUCTURE = 2.0  # standard deviation of a part, relative to that between neighbours of the same frame


@dataclass(frozen=True)
class Motion:
    """Of the whole picture."""

    pixels: float  # in the middle over pairs of frames
    frames: int  # between the frames of a pair


def camera_motion(
    read: Callable[[Sequence[int]], Float32[np.ndarray, "T H W d"]], frames: Sequence[int]
) -> Motion | None:
    """How the picture as a whole moves within a shot; None where the camera stands still.

    A part of the picture has moved where another place of phase correlation explains it clearly better than its own
    (Kuglin and Hines 1975).
    """
    for lag in (lag for lag in _LAGS if lag < len(frames)):
        places = np.linspace(0, len(frames) - 1 - lag, min(_LOOKS, len(frames) - lag)).round().astype(int).tolist()
        pairs = [_grey(read([frames[place], frames[place + lag]])) for place in places]
        pixels = float(np.median([_motion(*pair) for pair in pairs]))
        if pixels:
            return Motion(pixels * max(1, min(read(frames[:1]).shape[1:3]) // _SIDE), lag)
    return None


def _grey(frames: Float32[np.ndarray, "T H W d"]) -> Float64[np.ndarray, "T H1 W1"]:
    step = max(1, min(frames.shape[1:3]) // _SIDE)
    return frames[:, ::step, ::step].mean(3).astype(np.float64)


def _motion(one: Float64[np.ndarray, "H W"], other: Float64[np.ndarray, "H W"]) -> float:
    """In pixels, the middle over the parts that have moved; 0 where too few have."""
    side = max(8, min(one.shape) // _BLOCKS)
    found, count = list[float](), 0
    for top in range(0, one.shape[0] - side + 1, side):
        for left in range(0, one.shape[1] - side + 1, side):
            part = slice(top, top + side), slice(left, left + side)
            if not _has_structure(one[part]):
                continue
            count += 1
            found.append(_shift(one[part], other[part]))
    moved = [each for each in found if each > 0]
    return float(np.median(moved)) if count and len(moved) > _SHARE * count else 0.0


def _has_structure(part: Float[np.ndarray, "h w"]) -> bool:
    noise = np.abs(np.diff(part, axis=1)).mean() + 1e-9
    return bool(part.std() > _STRUCTURE * noise)


def _shift(one: Float64[np.ndarray, "h w"], other: Float64[np.ndarray, "h w"]) -> float:
    """How far the second part has to be moved to be the first; 0 where that explains little."""
    height, width = one.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    spectra = [np.fft.rfft2((part - part.mean()) * window) for part in (one, other)]
    cross = spectra[0] * spectra[1].conj()
    peak = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-12), one.shape)
    down, right = (int(place) for place in np.unravel_index(int(peak.argmax()), peak.shape))
    down, right = down - height * (down > height // 2), right - width * (right > width // 2)
    if not down and not right:
        return 0.0
    here, there = (
        (slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))),
        (
            slice(max(0, -down), height + min(0, -down)),
            slice(max(0, -right), width + min(0, -right)),
        ),
    )
    if min(one[here].shape) < 4:
        return 0.0
    moved, still = _difference(one[here], other[there]), _difference(one[here], other[here])
    return float(np.hypot(down, right)) if moved < _BETTER * still else 0.0


def _difference(one: Float64[np.ndarray, "h w"], other: Float64[np.ndarray, "h w"]) -> float:
    """In the middle over pixels, after an offset."""
    change = other - one
    return float(np.median(np.abs(change - np.median(change))))
