"""The noise of each pixel: where a part of the scene is noisier than the rest, it is not taken for what moves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nid_dist.export import load
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.decomposition.foreground import foreground_mask
from nid_dist.tasks.video.metrics import detection
from nid_dist.tasks.video.synthetic_clip import Clip
from nid_dist.tasks.video.task import VideoTask
from tests.tasks.video.decomposition.conftest import configured


def decomposed(trained: Path, folder: Path, frames: np.ndarray, clip: Clip) -> Decomposition:
    write_clip(replace(clip, frames=frames.astype(np.float32)), folder / "clip")
    return Decomposition(load(trained / "run"), VideoTask(configured(folder)))


def test_a_noisy_part_does_not_flicker(trained_clip: Path, clip: Clip, tmp_path: Path) -> None:
    added = 0.06 * np.random.default_rng(1).normal(size=(*clip.frames.shape[:3], 3))
    noisy = np.zeros(clip.frames.shape[1:3], bool)
    noisy[:, 40:60] = True
    frames = (clip.frames + added * noisy[..., None]).clip(0, 1)
    found = decomposed(trained_clip, tmp_path, frames, clip)
    level, (scene,) = found.background.noise, found.scenes
    assert level == pytest.approx(0.02, abs=0.008) and scene.noise.shape == noisy.shape
    # Three pixels from its border; the sprites of this clip hide some for long.
    inside, outside = noisy.copy(), ~noisy
    inside[:, [40, 41, 42, 57, 58, 59]] = False
    outside[:, 37:63] = False
    assert np.median(scene.noise[inside]) == pytest.approx(0.063, rel=0.15)
    assert np.median(scene.noise[outside]) == pytest.approx(level, rel=0.1)
    assert level <= scene.noise.min() and scene.noise.max() <= 4 * level + 1e-6
    moments = list(found.at_frames())
    still = inside & ~clip.foreground
    by_pixel = np.stack([moment.foreground for moment in moments])
    by_one = np.stack([foreground_mask(moment.transients, level) for moment in moments])
    assert by_pixel[still].mean() < 0.02 < 0.2 < by_one[still].mean()
    truth = [outside & each for each in clip.foreground]
    ours, plain = (
        detection(zip([outside & mask for mask in masks], truth, strict=True), level).f_measure
        for masks in (by_pixel, by_one)
    )
    assert ours > plain - 0.003 and ours > 0.97


def test_noise_that_stays_for_some_frames(trained_clip: Path, clip: Clip, tmp_path: Path) -> None:
    """As a codec leaves it, which copies what hardly changes: six frames in a row have the same."""
    drawn = np.random.default_rng(3).normal(size=clip.frames.shape)
    held = clip.background + np.where(
        clip.foreground[..., None], clip.frames - clip.background, 0.02 * drawn[::6].repeat(6, 0)
    )
    found = decomposed(trained_clip, tmp_path, held.clip(0, 1), clip)
    assert found.background.noise == pytest.approx(0.02, rel=0.3)
    free = np.stack([moment.foreground for moment in found.at_frames()]) & ~clip.foreground
    assert free.mean() < 0.02


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_frames_that_do_not_change(trained_clip: Path, clip: Clip, tmp_path: Path, noise: float) -> None:
    """Zero noise, and a constant video: nothing moves, and nothing is divided by nothing."""
    drawn = noise * np.random.default_rng(2).normal(size=clip.frames.shape)
    found = decomposed(trained_clip, tmp_path, np.full_like(clip.frames, 0.4) + drawn, clip)
    moments = list(found.at_frames())
    assert all(np.isfinite(moment.background).all() for moment in moments)
    assert np.isfinite(found.scenes[0].noise).all() and found.scenes[0].noise.min() > 0
    assert np.mean([moment.foreground.mean() for moment in moments]) < 0.01
