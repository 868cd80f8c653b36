"""Two scenes cut together, in a light that drifts: each has a background of its own."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.evaluation.image_metrics import psnr
from nid_dist.export import load
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.decomposition.decompose import Decomposition
from nid_dist.tasks.video.median import median_times_gain
from nid_dist.tasks.video.synthetic_clip import Clip, synthetic_clip
from nid_dist.tasks.video.task import VideoTask
from nid_dist.training.run import train
from tests.tasks.video.decomposition.conftest import configured


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [
        synthetic_clip(40, 48, 64, flicker=0.02, drift=0.1, texture=0.05, photograph=name) for name in ("retina", "cat")
    ]


@pytest.fixture(scope="module")
def cut(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 25 frames of one, 40 of the other, the rest of the first; with a run on them."""
    folder = tmp_path_factory.mktemp("cut")
    one, two = clips
    frames = np.concatenate([one.frames[:25], two.frames, one.frames[25:]])
    write_clip(Clip(frames, frames, frames[..., 0] > 1, frames[..., 0] > 1), folder / "clip")
    with pytest.warns(UserWarning, match=r"3 shots of 2 scenes, frames 0-24 \(scene 1\), 25-64 \(scene 2\), 65-79"):
        train(configured(folder, "training.steps=200"))
    return folder


def test_each_has_its_background(cut: Path, clips: list[Clip]) -> None:
    found = Decomposition(load(cut / "run"), VideoTask(configured(cut)))
    one, two = clips
    truth = np.concatenate([one.background[:25], two.background, one.background[25:]])
    moments = list(found.at_frames())
    background = np.stack([moment.background for moment in moments])
    assert [len(scene.fitted) for scene in found.scenes] == [40, 40]
    assert not set(found.scenes[0].background.experts) & set(found.scenes[1].background.experts)
    for part in (slice(0, 25), slice(25, 65), slice(65, 80)):
        assert psnr(background[part], truth[part]) > 41
    assert psnr(background[25:65], truth[25:65]) > psnr(median_times_gain(two.frames), truth[25:65])
    # The whole background is a code of the dictionary, and the detail times the gain.
    code, gains = found.background.code, found.task.light.gains
    smooth = found.model.evaluate(code, found.model.coords).unflatten(1, (48, 64)).numpy()
    for frame in (3, 40, 79):
        detail = found.scenes[int(25 <= frame < 65)].detail
        np.testing.assert_allclose(smooth[frame] + gains[frame] * detail, background[frame], atol=1e-4)
    # Between frames of two scenes it is that of the nearest.
    atoms = found.atoms((48, 64))
    np.testing.assert_allclose(found.render(24.4 / 25, atoms), background[24], atol=0.02)
    np.testing.assert_allclose(found.render(24.6 / 25, atoms), background[25], atol=0.02)
