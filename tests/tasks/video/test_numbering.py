"""Names of images in a folder: the order and the times of frames, and what hardly is one clip."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.frames import Video
from nid_dist.tasks.video.numbering import in_order, require_one_clip, times_of

HERE = Path("here")


def quiet_times(names: list[str]) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_one_clip(HERE, names)
        return times_of(HERE, names).tolist()


def test_numbers_are_read_as_numbers() -> None:
    assert in_order(["f10.png", "f9.png", "f100.png"]) == ["f9.png", "f10.png", "f100.png"]


def test_a_gap_takes_its_time() -> None:
    """Frames 7 and 8 are missing: at 25 a second, frame 9 comes 3/25 s after frame 6."""
    names = [f"f{number:04}.png" for number in (5, 6, 9, 10)]
    with pytest.warns(DoubtfulMeaning, match="from number 5 to 10 without 7, 8, taken as gaps in time"):
        times = times_of(HERE, names)
    np.testing.assert_allclose(times, [0, 0.04, 0.16, 0.2])


def test_every_tenth_frame_and_a_gap_of_one() -> None:
    with pytest.warns(DoubtfulMeaning, match="without 30;|without 30,"):
        times = times_of(HERE, [f"{number}.png" for number in (10, 20, 40, 50)])
    np.testing.assert_allclose(times, [0, 0.04, 0.12, 0.16])


@pytest.mark.parametrize(
    "names",
    [
        ["f1.png", "f2.png", "f3.png"],
        ["f10.png", "f20.png", "f30.png"],
        ["2024-06-01/f1.jpg", "2024-06-01/f2.jpeg", "2024-06-01/f3.JPG"],
        ["morning.png", "noon.png", "night.png"],
        ["part1/f1.png", "part1/f2.png", "part2/f3.png"],
        ["f1.png", "f9.png"],
    ],
)
def test_even_times(names: list[str]) -> None:
    np.testing.assert_allclose(quiet_times(names), np.arange(len(names)) / 25)


def test_moments_in_milliseconds() -> None:
    """40 ms are usual: 1/25 s."""
    np.testing.assert_allclose(
        quiet_times([f"{number}.png" for number in (1000, 1040, 1081, 1120)]), [0, 1 / 25, 0.081, 0.12]
    )


def test_several_kinds_of_images_are_refused() -> None:
    frames = ["rgb/f1.png", "rgb/f2.png"]
    for others in (["mask/f1.png", "mask/f2.png"], ["rgb/depth1.png", "rgb/depth2.png"], ["rgb/f1.jpg", "rgb/f2.jpg"]):
        with pytest.raises(UserError, match=r"here: found 2 kinds of images: rgb/f#.png \(2\), .* \(2\)"):
            require_one_clip(HERE, frames + others)


def test_a_stranger_is_doubtful() -> None:
    with pytest.warns(DoubtfulMeaning, match=r"2 kinds of images: f#.png \(2\), \*.jpg \(1\)"):
        require_one_clip(HERE, ["f1.png", "f2.png", "cover.jpg"])


def test_two_cameras_are_doubtful() -> None:
    names = [f"cam{camera}/f{number}.png" for camera in (0, 1) for number in (1, 2, 3)]
    with pytest.warns(DoubtfulMeaning, match="2 series of frames, each numbered from 1 to 3"):
        np.testing.assert_allclose(times_of(HERE, names), np.arange(6) / 25)


def test_a_video_of_a_folder_with_a_gap(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        Image.fromarray(np.full((12, 16, 3), 10 * number, np.uint8)).save(tmp_path / f"f{number}.png")
    with pytest.warns(DoubtfulMeaning, match="without 3"):
        video = Video(VideoSection(source="video", path=str(tmp_path)))
    np.testing.assert_allclose(video.times, [0, 0.04, 0.12])


def test_twelve_bits_of_an_array() -> None:
    """Of all frames together: 2048 of 4095."""
    frames = np.stack([np.full((12, 16, 3), level, np.uint16) for level in (0, 2048, 4095)])
    section = VideoSection(source="video", path="none")
    with pytest.warns(DoubtfulMeaning, match="the video: found 16-bit samples up to 4095, as of 12 bits") as said:
        dark = Video(section, frames)
    assert len(said) == 1 and dark.read([2]).max() == pytest.approx(4095 / 65535, abs=1e-4)
    bright = Video(section.model_copy(update={"bits": 12}), frames)
    np.testing.assert_allclose(bright.read([0, 1, 2])[:, 0, 0, 0], [0, 2048 / 4095, 1], atol=1e-4)


def test_channels_first_are_refused() -> None:
    with pytest.raises(UserError, match=r"a frame of the video: .*shape \(3, 12, 16\).*moveaxis"):
        Video(VideoSection(source="video", path="none"), np.zeros((4, 3, 12, 16), np.uint8))
