"""Gains and offsets of frames, against those that the frames were made with."""

import numpy as np
import pytest

from nid_dist.tasks.video.light import Light, fit_lines, light_of, scene_of

FRAMES, VALUES = 30, 400


def made(noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of a scene that something passes, and one thing rests in for nearly half of the time; gains, offsets."""
    generator = np.random.default_rng(3)
    scene, time = generator.uniform(0.1, 0.7, VALUES), np.arange(FRAMES)
    gains, offsets = 1 + 0.2 * np.sin(time / 5), 0.05 * np.cos(time / 3)
    gains, offsets = gains / np.median(gains), offsets - np.median(offsets)
    frames = gains[:, None] * scene + offsets[:, None]
    for frame in range(FRAMES):
        frames[frame, 10 * frame : 10 * frame + 60] = 0.9
    frames[8:21, :40] = 0.2
    return frames + noise * generator.normal(size=frames.shape), gains, offsets


def light(frames: np.ndarray, fitted: list[int] | None = None) -> Light:
    every = list(range(len(frames)))
    return light_of(lambda chosen: frames[list(chosen)], [every], fitted or every, np.arange(len(frames)) / 25)


def test_exact_without_noise() -> None:
    frames, gains, offsets = made()
    found = light(frames)
    # Only up to a gain and an offset of the scene: what is behind each frame is the same.
    scene = scene_of(lambda chosen: frames[list(chosen)], range(FRAMES))
    ratio, shift = found.gains / gains, found.offsets - offsets
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    behind = found.gains[FRAMES // 2] * scene[-1] + found.offsets[FRAMES // 2]
    assert behind == pytest.approx(frames[FRAMES // 2, -1], abs=1e-4)
    # A shift of the scene is one of the offsets, times the gains.
    slope = np.polyfit(gains, shift, 1)
    np.testing.assert_allclose(shift, np.polyval(slope, gains), atol=1e-4)
    assert np.median(found.gains) == pytest.approx(1, abs=1e-3)


def test_with_noise_and_gaps() -> None:
    frames, gains, _ = made(noise=0.02)
    frames[np.random.default_rng(0).random(frames.shape) < 0.3] = np.nan
    found = light(frames)
    assert np.abs(found.gains / gains / np.median(found.gains / gains) - 1).max() < 0.05


def test_frames_left_out_are_between_their_neighbours() -> None:
    frames = made()[0]
    fitted = [frame for frame in range(FRAMES) if frame not in (5, 17)]
    frames[[5, 17]] = 9.0
    found = light(frames, fitted)
    assert found.gains[5] == pytest.approx((found.gains[4] + found.gains[6]) / 2)
    assert found.gains[17] == pytest.approx((found.gains[16] + found.gains[18]) / 2)


def test_what_no_line_explains_has_none() -> None:
    generator = np.random.default_rng(0)
    scene = generator.random(VALUES)
    frames = np.stack([0.5 * scene + 0.2, generator.random(VALUES), 1 - scene])
    found = fit_lines(frames, scene)
    assert found.explained.tolist() == [True, False, True]
    np.testing.assert_allclose(found.gains, 1 * [0.5] + 2 * [1.0], atol=1e-6)
    flat = fit_lines(np.full((1, VALUES), 0.6) + 0.01 * generator.normal(size=(1, VALUES)), np.full(VALUES, 0.4))
    assert flat.gains[0] == pytest.approx(1, abs=1e-3) and flat.offsets[0] == pytest.approx(0.2, abs=0.003)
