"""Detail too fine for the trunk belongs to the background, and nothing that moves or rests does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nid_dist.evaluation.image_metrics import psnr
from nid_dist.export import load
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.decomposition.foreground import THRESHOLD, deviation
from nid_dist.tasks.video.synthetic_clip import Clip
from nid_dist.tasks.video.task import VideoTask
from tests.tasks.video.decomposition.conftest import configured


@pytest.fixture(scope="module")
def dotted(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clip, np.ndarray]:
    """The clip with single bright pixels in its background, behind what moves; its folder; where they are."""
    generator = np.random.default_rng(5)
    dots = np.zeros(clip.background.shape[1:3], bool)
    dots.reshape(-1)[generator.choice(dots.size, 60, replace=False)] = True
    shown = dots & ~clip.foreground
    frames, background = clip.frames.copy(), clip.background.copy()
    frames[shown] = (frames[shown] + 0.3) % 1.0
    background[:, dots] = (background[:, dots] + 0.3) % 1.0
    corrupted = replace(clip, frames=frames, background=background)
    folder = tmp_path_factory.mktemp("dots")
    write_clip(corrupted, folder / "clip")
    return folder, corrupted, dots


@pytest.mark.parametrize("missing", ["{}", "{missing_pixels: 0.3, missing_frames: 0.1}"])
def test_dots_are_background(trained_clip: Path, dotted: tuple[Path, Clip, np.ndarray], missing: str) -> None:
    folder, truth, dots = dotted
    task = VideoTask(configured(folder, f"signals.video={missing}"))
    found = Decomposition(load(trained_clip / "run"), task)
    taken = more_than_noise(found)
    often = truth.foreground.mean(0) > 0.4
    assert taken[dots & ~often].mean() > 0.9
    assert taken[~dots].mean() < 0.02
    # Where the sprite rests for almost half of the time (hidden pixels: more than half) little is taken in.
    assert taken[often & ~dots].mean() < 0.03, taken[often & ~dots].mean()
    moments = list(found.at_frames())
    with_detail = np.stack([moment.background for moment in moments])
    assert psnr(with_detail, truth.background) > psnr(with_detail - found.scenes[0].detail, truth.background) + 3
    free = np.stack([moment.foreground for moment in moments])[:, dots & ~often] & ~truth.foreground[:, dots & ~often]
    assert free.mean() < 0.05
    # Counted in the model's size.
    assert found.bytes > 4 * 4 * taken.sum()


def test_a_video_without_has_none(trained_clip: Path, clip: Clip) -> None:
    found = Decomposition(load(trained_clip / "run"), VideoTask(configured(trained_clip)))
    assert more_than_noise(found).mean() < 0.02


def more_than_noise(found: Decomposition) -> np.ndarray:
    """Where there is a constant that would be seen in a frame, [H, W] of bool."""
    beyond: np.ndarray = deviation(found.scenes[0].detail) > THRESHOLD * found.background.noise
    return beyond
