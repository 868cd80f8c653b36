"""A clip with known truth, taken apart; the figures are held against the temporal median's."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.export import load
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.separations import Separation, by_median, figures
from nid_dist.tasks.video.synthetic_clip import Clip
from nid_dist.tasks.video.task import VideoTask
from tests.tasks.video.decomposition.conftest import configured


@pytest.fixture(scope="module")
def found(trained_clip: Path) -> Decomposition:
    return Decomposition(load(trained_clip / "run"), VideoTask(configured(trained_clip)))


def test_better_than_the_median(found: Decomposition, clip: Clip) -> None:
    background = np.stack([moment.background.clip(0, 1) for moment in found.at_frames()])
    ours = figures(Separation(background, found.background.noise, found.bytes), clip.frames, clip)
    median = figures(by_median(clip.frames).render(), clip.frames, clip)
    assert ours["background_db"] > median["background_db"] + 3
    assert ours["f_measure"] > median["f_measure"] + 0.02
    assert ours["f_measure_pausing"] > median["f_measure_pausing"] + 0.1
    assert found.background.noise == pytest.approx(0.02, abs=0.004)


def test_background_and_transients_add_up(found: Decomposition, clip: Clip) -> None:
    moments = list(found.at_frames())
    assert [round(25 * moment.time) for moment in moments] == list(range(36))
    for moment, frame in zip(moments, clip.frames, strict=True):
        np.testing.assert_allclose(moment.background + moment.transients, frame, atol=1e-4)


def test_the_robust_fit_does_no_harm(trained_clip: Path, found: Decomposition, clip: Clip) -> None:
    """It is exact where training is stochastic."""
    before = Decomposition(load(trained_clip / "run"), VideoTask(configured(trained_clip)), rounds=0)

    def error(one: Decomposition) -> float:
        behind = [moment.background for moment in one.at_frames()]
        return float(np.square(np.stack(behind) - clip.background).mean())

    assert error(found) <= 1.02 * error(before)


def test_between_frames_and_pixels(found: Decomposition) -> None:
    """Where both grids have their times and pixels, f is the same; between them it is f, too."""
    own = list(found.at_frames())
    finer = list(found.at(50.0, (96, 128)))
    assert len(finer) == 71 and finer[0].background.shape == (96, 128, 3) and finer[3].foreground.shape == (96, 128)
    atoms = found.atoms((48, 64))
    half = found.render(0.06, atoms)
    np.testing.assert_allclose(half, (own[1].background + own[2].background) / 2, atol=1e-5)
    threefold = found.render(0.04, found.atoms((144, 192)))
    np.testing.assert_allclose(threefold[1::3, 1::3], own[1].background, atol=1e-4)


def test_missing_pixels_and_frames(trained_clip: Path, clip: Clip) -> None:
    """A tenth of the frames and a third of the pixels are not looked at: those of others are not changed by them."""
    config = configured(trained_clip, "signals.video={missing_pixels: 0.3, missing_frames: 0.1}")
    task = VideoTask(config)
    assert len(task.signals) == 32 and task.kept_pixels([3]).mean() == pytest.approx(0.7, abs=0.03)
    np.testing.assert_array_equal(task.kept_pixels([5, 3])[1], task.kept_pixels([3])[0])
    found = Decomposition(load(trained_clip / "run"), task, rounds=1)
    moments = list(found.at_frames())
    lost = [place for place in range(36) if place not in task.signals]
    errors = [float(np.square(moments[place].background - clip.background[place]).mean()) for place in lost]
    assert len(lost) == 4 and -10 * np.log10(np.mean(errors)) > 30
