"""Where a video is cut: shots, and which of them show the same scene, as a camera that is gone back to does.

A cut is where a frame differs from the one before far more than frames around it do, and not by its light alone. A
fade from one shot to the next is no such place, and is not found.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from nid_dist.tasks.video.light import Look, fit_lines, scene_of

_AROUND = 8  # steps from frame to frame on either side, with which one is compared
_TIMES = 3.0  # larger than these that of a cut is at least
_LEAST = 0.01  # and so many of the frames' units
SHORTEST = 5  # frames of a shot: of fewer nobody could tell what moves


@dataclass(frozen=True)
class Shot:
    """Frames between two cuts."""

    frames: range  # numbers in the video as it was chosen
    scene: int  # the same for shots with the same background


def find_shots(look: Look, fitted: Sequence[int], total: int) -> list[Shot]:
    """The shots of a video, one after the other, all frames in one of them.

    Args:
        look: at some frames.
        fitted: the frames that are looked at, ascending; a cut lies right before one of them.
        total: number of frames.
    """
    cuts = _without_flashes(look, fitted, _cuts(look, fitted))
    borders = [0, *(fitted[place] for place in cuts), total]
    shots: list[Shot] = []
    scenes: list[Float64[np.ndarray, "M"]] = []
    for first, stop in itertools.pairwise(borders):
        if len(borders) == 2:
            return [Shot(range(total), 0)]
        shown = scene_of(look, [frame for frame in fitted if first <= frame < stop])
        alike = [number for number, scene in enumerate(scenes) if fit_lines(shown[None], scene).explained[0]]
        if not alike:
            scenes.append(shown)
        shots.append(Shot(range(first, stop), alike[0] if alike else len(scenes) - 1))
    return shots


def scenes_of(shots: Sequence[Shot]) -> list[list[int]]:
    """The frames of each scene, ascending."""
    count = 1 + max(shot.scene for shot in shots)
    return [[frame for shot in shots if shot.scene == scene for frame in shot.frames] for scene in range(count)]


def _cuts(look: Look, fitted: Sequence[int]) -> list[int]:
    """Places in `fitted` whose frame is another picture than the one before."""
    steps = _steps(look, fitted)
    found = []
    for place, step in enumerate(steps):
        around = np.concatenate([steps[max(0, place - _AROUND) : place], steps[place + 1 : place + 1 + _AROUND]])
        usual = float(np.median(around)) if len(around) else 0.0
        if step > max(_TIMES * usual, _LEAST) and not _alike(look, fitted[place], fitted[place + 1]):
            found.append(place + 1)
    return found


def _steps(look: Look, fitted: Sequence[int]) -> Float64[np.ndarray, "S"]:
    """How far each frame is from the one before, in the middle over what is known of both; an offset does not count."""
    steps, before = np.zeros(max(0, len(fitted) - 1)), look(fitted[:1])[0]
    for place, frame in enumerate(fitted[1:]):
        now = look([frame])[0]
        change = now - before
        change = change[np.isfinite(change)]
        steps[place] = np.median(np.abs(change - np.median(change))) if len(change) else 0.0
        before = now
    return steps


def _alike(look: Look, one: int, other: int) -> bool:
    seen = look([one, other]).astype(np.float64)
    explained: Bool[np.ndarray, "1"] = fit_lines(seen[1:], seen[0]).explained
    return bool(explained[0])


def _without_flashes(look: Look, fitted: Sequence[int], cuts: Sequence[int]) -> list[int]:
    """Cuts whose shots have enough frames: what is too short belongs to the shot after it, or is no shot at all."""
    kept: list[int] = []
    for place, cut in enumerate(cuts):
        after = cuts[place + 1] if place + 1 < len(cuts) else len(fitted)
        before = kept[-1] if kept else 0
        if cut - before < SHORTEST and kept:
            kept.pop()
            # Before the flash and after it: the same picture?
            if _alike(look, fitted[before - 1], fitted[cut]):
                continue
            cut = before
        if after - cut >= SHORTEST or after < len(fitted):
            kept.append(cut)
    while kept and (kept[0] < SHORTEST or len(fitted) - kept[-1] < SHORTEST):
        kept.pop(0 if kept[0] < SHORTEST else -1)
    return kept
