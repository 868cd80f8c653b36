"""Frames of files and folders: which they are, when they are, and what is said of what is wrong with them."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.decomposition.writing import writing
from nid_dist.tasks.video.frames import Video

SIZE = (12, 16)


def frame(place: int) -> np.ndarray:
    """Each of another grey, with a mark at the upper left."""
    picture = np.full((*SIZE, 3), (20 + 10 * place) / 255, np.float32)
    picture[:4, :4] = (1, 0, 0)
    return picture


def write(path: Path, count: int = 10, *, lossless: bool = True) -> Path:
    with writing(path, 10.0, lossless=lossless) as video:
        for place in range(count):
            video.add(frame(place))
    return path


def folder_of(path: Path, names: list[str], size: tuple[int, int] = SIZE) -> Path:
    path.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        Image.fromarray(np.full((*size, 3), 10 * place, np.uint8)).save(path / name)
    return path


def opened(path: Path, **changes: object) -> Video:
    video = {name: changes.pop(name) for name in ("start", "stop", "stride", "size") if name in changes}
    return Video(VideoSection.model_validate({"source": "video", "path": str(path), "video": video, **changes}))


def greys(video: Video) -> list[int]:
    """By the last pixel, of any order of reading."""
    return [round(255 * float(video.read([place])[0, -1, -1, 0])) for place in range(len(video))]


def test_a_file(tmp_path: Path) -> None:
    video = opened(write(tmp_path / "v.mkv"))
    assert len(video) == 10 and video.grid_shape == SIZE and video.channels == 3 and video.present.all()
    np.testing.assert_allclose(video.times, np.arange(10) / 10, atol=1e-3)
    assert video.rate == pytest.approx(10, rel=1e-3) and video.bytes == 10 * 12 * 16 * 3
    np.testing.assert_allclose(video.read([7, 2]), np.stack([frame(7), frame(2)]), atol=1e-4)


def test_lossy_files_of_odd_sides_have_a_row_and_a_column_more(tmp_path: Path) -> None:
    with writing(tmp_path / "v.mp4", 30.0) as made:
        for place in range(4):
            made.add(np.full((11, 15, 1), place / 4, np.float32))
    video = opened(tmp_path / "v.mp4", colour="grey")
    assert video.grid_shape == (12, 16) and video.channels == 1 and video.rate == pytest.approx(30, rel=1e-2)
    np.testing.assert_allclose(video.read([3])[0, 5, 5], 0.75, atol=0.02)


@pytest.mark.parametrize("ending", ["mkv", "avi"])
def test_a_file_that_is_cut_short(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"v.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for _ in range(30):
            noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(opened(path)) == 30
    path.write_bytes(path.read_bytes()[: 2 * path.stat().st_size // 3])
    with pytest.warns(DoubtfulMeaning, match=f"v.{ending}: found [12][0-9] frames.* that it promises"):
        assert 10 < len(opened(path)) < 25


def test_a_range_with_a_stride(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv")
    assert greys(opened(path, start=2, stop=9, stride=3)) == [40, 70, 100]
    assert greys(opened(path, start=7)) == [90, 100, 110]


def test_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", 3)
    assert opened(path, short_side=6).grid_shape == (6, 8)
    whole = opened(path).grid_shape
    assert opened(path, short_side=1000).grid_shape == whole  # made smaller, never larger
    assert opened(path, size=[5, 9], colour="grey").read([0]).shape == (1, 5, 9, 1)


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    video = opened(folder_of(tmp_path / "f", ["f9.png", "f10.png", "f8.png"]))
    assert greys(video) == [20, 0, 10] and video.rate == pytest.approx(25)


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "empty").mkdir()
    for name, found in (("a.txt", "no video"), ("empty", "no image"), ("none", "nothing")):
        with pytest.raises(UserError, match=found):
            opened(tmp_path / name)


def test_a_file_without_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="without a video stream"):
        opened(tmp_path / "sound.mkv")


def test_too_few_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", 5)
    with pytest.raises(UserError, match="found 1 frame.*expected at least two"):
        opened(path, start=4)
    with pytest.raises(UserError, match=r"stop 9.*with 5 frames, expected a range within the video"):
        opened(path, stop=9)
    with pytest.raises(UserError, match="expected a range within"):
        opened(path, start=7, stop=9)


def test_frames_of_different_sizes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", ["0.png", "1.png"])
    folder_of(folder, ["2.png"], (10, 16))
    with pytest.raises(UserError, match=r"frame 2 .*found 10x16 pixels, expected 12x16"):
        opened(folder)
    assert len(opened(folder, size=[12, 16])) == 3


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    times = [0, 100, 200, 700, 800]
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "bgr0"
        for place, time in enumerate(times):
            made = av.VideoFrame.from_ndarray(np.round(255 * frame(place)).astype(np.uint8), format="rgb24")
            made.pts, made.time_base = time // 100, Fraction(1, 10)
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    with pytest.warns(UserWarning, match="variable frame rate"):
        video = opened(path)
    np.testing.assert_allclose(video.times, np.array(times) / 1000, atol=2e-3)


def test_a_damaged_frame_is_missing_and_nothing_else(tmp_path: Path) -> None:
    """Pictures of Motion JPEG stand alone: one of them is cut to pieces."""
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "yuvj420p"
        stream.bit_rate = 10_000_000
        for place in range(8):
            made = av.VideoFrame.from_ndarray(np.round(255 * frame(place)).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    begins = [place for place in range(len(data) - 2) if data[place : place + 3] == b"\xff\xd8\xff"]
    assert len(begins) == 8
    data[begins[3] : begins[4] - 8] = bytes(begins[4] - 8 - begins[3])
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"1 of 8 chosen frames cannot be decoded \(3\)"):
        video = opened(path)
    assert video.present.tolist() == [True] * 3 + [False] + [True] * 4
    np.testing.assert_allclose(video.times, np.arange(8) / 10, atol=1e-3)
    assert not video.read([3]).any()
    np.testing.assert_allclose([greys(video)[place] for place in (2, 4, 7)], [40, 60, 90], atol=3)


def test_a_damaged_picture_of_a_folder_is_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", ["0.png", "1.png", "2.png"])
    (folder / "0.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="frame 0 is taken as missing"):
        video = opened(folder)
    assert video.present.tolist() == [False, True, True] and greys(video)[1:] == [10, 20]
