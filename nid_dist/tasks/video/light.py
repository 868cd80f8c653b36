"""The light of a frame: a gain and an offset, found before anything is learned, so that f learns the scene alone.

Where nothing moves, a frame is g_t s(x) + o_t of the scene s. The scene is a median over frames, each at its own light;
a frame's gain and offset are a robust line through its pixels against the scene's, from Huber's loss to Tukey's: what
moves has no say (Huber and Ronchetti, "Robust Statistics", 2009). Only together are they determined: of a shot's
frames the median gain is 1, the median offset 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

_SPREAD = 1.4826  # of deviations, relative to their median
_HUBER, _TUKEY = 1.345, 4.685  # delta points in spreads, of 95 % efficiency
_CONVEX, _REDESCENDING = 8, 6  # iterations of each
_PRIOR = 0.3  # standard deviation of a gain: what a scene without contrast does not tell is 1
_FLOOR = 1e-7  # of a spread
_EXPLAINED = 0.5  # of a frame's own spread, that what a line leaves over of it has to be below
_LOOKS = 48  # frames whose median is the scene
_ROUNDS = 3  # of the scene and their light in turn
_AT_ONCE = 16  # frames

Look = Callable[[Sequence[int]], Float[np.ndarray, "T M"]]
"""The same values of some frames, not a number where they are not known."""


@dataclass(frozen=True)
class Light:
    """Of every frame."""

    gains: Float64[np.ndarray, "T"]
    offsets: Float64[np.ndarray, "T"]

    @classmethod
    def constant(cls, frames: int) -> "Light":
        """As it is taken where nobody looks for it: gains of 1, offsets of 0."""
        return cls(np.ones(frames), np.zeros(frames))


@dataclass(frozen=True)
class Lines:
    """What is found of frames against a scene."""

    gains: Float64[np.ndarray, "T"]
    offsets: Float64[np.ndarray, "T"]
    left_over: Float64[np.ndarray, "T"]  # spread of what the line leaves over of a frame, relative to the frame's own

    @property
    def explained(self) -> np.ndarray:
        """Whether a frame shows the scene, [T] of bool."""
        return self.left_over < _EXPLAINED


def scene_of(look: Look, frames: Sequence[int]) -> Float64[np.ndarray, "M"]:
    """What frames show where nothing moves, at the light of their middle one; not a number where none is known."""
    chosen = np.linspace(0, len(frames) - 1, min(_LOOKS, len(frames))).round().astype(int)
    seen = look([frames[place] for place in chosen]).astype(np.float64)
    scene = _median(seen)
    for _ in range(_ROUNDS):
        lines = fit_lines(seen, scene)
        scene = _median((seen - lines.offsets[:, None]) / lines.gains[:, None])
    # Undetermined: all frames twice as bright would be a scene half as bright.
    lines = fit_lines(seen, scene)
    standing: Float64[np.ndarray, "M"] = float(np.median(lines.gains)) * scene + float(np.median(lines.offsets))
    return standing


def fit_lines(seen: Float[np.ndarray, "T M"], scene: Float64[np.ndarray, "M"]) -> Lines:
    """Robust lines of frames against a scene.

    A frame that no line explains, and one of a scene without contrast, has a gain of 1 and the offset in the middle.
    """
    known = np.isfinite(seen) & np.isfinite(scene)
    target, given = np.where(known, seen, 0.0), np.nan_to_num(scene)
    gains, offsets = np.ones(len(seen)), np.zeros(len(seen))
    own = _spread(seen - _median(seen.T)[:, None], known)
    for turn in range(_CONVEX + _REDESCENDING):
        size = np.abs(target - gains[:, None] * given - offsets[:, None])
        spread = _spread(size, known)
        ratio = size / spread[:, None]
        if turn < _CONVEX:
            weights = known / np.maximum(ratio / _HUBER, 1)
        else:
            weights = known * np.square(np.maximum(1 - np.square(ratio / _TUKEY), 0))
        count, first = weights.sum(1), weights @ given
        second = weights @ np.square(given)
        to, product = (weights * target).sum(1), (weights * target) @ given
        ridge = np.square(spread / _PRIOR)
        # (second + ridge) g + first o = product + ridge and first g + count o = to
        determinant = np.maximum((second + ridge) * count - first**2, 1e-30)
        gains = ((product + ridge) * count - first * to) / determinant
        offsets = (to - gains * first) / np.maximum(count, 1e-30)
    spread = _spread(target - gains[:, None] * given - offsets[:, None], known)
    lines = Lines(gains, offsets, spread / own)
    poor = ~(lines.explained & (gains > 0))
    if poor.any():
        gains, offsets = gains.copy(), offsets.copy()
        gains[poor] = 1.0
        offsets[poor] = np.nan_to_num(_median((seen - scene)[poor].T))
    return Lines(gains, offsets, spread / own)


def light_of(
    look: Look, scenes: Sequence[Sequence[int]], fitted: Sequence[int], times: Float64[np.ndarray, "T"]
) -> Light:
    """The light of every frame of a video.

    Args:
        look: at some frames.
        scenes: the numbers of all frames, of each scene apart, ascending.
        fitted: the frames that are looked at, some of every scene; the others' light is between their neighbours'.
        times: of all frames, in seconds.
    """
    gains, offsets = np.ones(len(times)), np.zeros(len(times))
    allowed = set(fitted)
    for frames in scenes:
        own = [frame for frame in frames if frame in allowed]
        scene = scene_of(look, own)
        parts = [fit_lines(look(own[first : first + _AT_ONCE]), scene) for first in range(0, len(own), _AT_ONCE)]
        for into, found in (
            (gains, np.concatenate([part.gains for part in parts])),
            (offsets, np.concatenate([part.offsets for part in parts])),
        ):
            into[frames] = np.interp(times[frames], times[own], found)
    return Light(gains, offsets)


def _median(values: Float[np.ndarray, "T M"]) -> Float64[np.ndarray, "M"]:
    """Over frames, of what is known."""
    if not np.isnan(values).any():
        middle: Float64[np.ndarray, "M"] = np.median(values, axis=0).astype(np.float64)
        return middle
    known = np.isfinite(values).sum(0)
    ordered = np.sort(values, axis=0)  # what is not known comes last
    places = np.arange(values.shape[1])
    low, high = np.maximum(known - 1, 0) // 2, np.minimum(known // 2, len(values) - 1)
    return np.where(known > 0, (ordered[low, places] + ordered[high, places]) / 2, np.nan).astype(np.float64)


def _spread(values: Float[np.ndarray, "T M"], known: np.ndarray) -> Float64[np.ndarray, "T"]:
    """Of each frame's deviations, of normal ones their standard deviation."""
    sizes = np.abs(values)
    middle = np.median(sizes, axis=1) if known.all() else _median(np.where(known, sizes, np.nan).T)
    return np.maximum(_SPREAD * np.nan_to_num(middle), _FLOOR)
