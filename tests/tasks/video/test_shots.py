"""Cuts of clips put one after the other, and what is no cut."""

from collections.abc import Sequence

import numpy as np
import pytest

from nid_dist.tasks.video.camera import camera_motion
from nid_dist.tasks.video.light import Look
from nid_dist.tasks.video.shots import Shot, find_shots, scenes_of
from nid_dist.tasks.video.synthetic_clip import synthetic_clip


def look_at(frames: np.ndarray) -> Look:
    pixels = np.random.default_rng(0).choice(frames.shape[1] * frames.shape[2], 600, replace=False)
    values = frames.reshape(len(frames), -1, frames.shape[3])[:, pixels].reshape(len(frames), -1)
    return lambda chosen: values[list(chosen)]


def shots_of(frames: np.ndarray, fitted: Sequence[int] | None = None) -> list[Shot]:
    return find_shots(look_at(frames), fitted or range(len(frames)), len(frames))


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    made = [synthetic_clip(60, 48, 64, photograph=name, drift=0.2).frames for name in ("chelsea", "coffee", "rocket")]
    return [made[0][:30], made[1][:20], made[2][:25], made[0][30:]]


def test_cuts_and_a_scene_that_comes_back(parts: list[np.ndarray]) -> None:
    frames = np.concatenate(parts)
    frames[10] = np.clip(1.9 * frames[10], 0, 1)  # a flash
    frames[40:42] = parts[2][:2]  # two frames of something else
    expected = [Shot(range(30), 0), Shot(range(30, 50), 1), Shot(range(50, 75), 2), Shot(range(75, 105), 0)]
    assert shots_of(frames) == expected
    assert scenes_of(expected) == [[*range(30), *range(75, 105)], list(range(30, 50)), list(range(50, 75))]
    # A frame that is left out belongs to one of them.
    assert shots_of(frames, [frame for frame in range(105) if frame != 30])[0].frames == range(31)


@pytest.mark.parametrize("flicker", [0.0, 0.3])
def test_light_is_no_cut(flicker: float) -> None:
    frames = synthetic_clip(40, 48, 64, flicker=flicker).frames
    assert shots_of(frames) == [Shot(range(40), 0)]


def test_noise_and_few_frames_are_no_cuts() -> None:
    noise = np.random.default_rng(0).random((20, 24, 32, 3))
    assert shots_of(noise) == [Shot(range(20), 0)]
    assert shots_of(noise[:2]) == [Shot(range(2), 0)]


def test_a_camera_that_moves(parts: list[np.ndarray]) -> None:
    wide = synthetic_clip(1, 96, 256, noise=0.0, texture=0.03).background[0]
    generator = np.random.default_rng(0)

    def panned(speed: float) -> np.ndarray:
        frames = np.stack([wide[:, int(speed * time) :][:, :128] for time in range(40)])
        return (frames + 0.02 * generator.normal(size=frames.shape)).astype(np.float32)

    for speed, lag in ((3.0, 1), (0.25, 4)):
        frames = panned(speed)
        motion = camera_motion(lambda chosen, frames=frames: frames[list(chosen)], range(40))
        assert motion is not None and motion.frames == lag and motion.pixels == pytest.approx(speed * lag, abs=0.6)
        assert shots_of(frames) == [Shot(range(40), 0)]
    for still in (*parts, panned(0.0)):
        assert camera_motion(lambda chosen, frames=still: frames[list(chosen)], range(len(still))) is None
