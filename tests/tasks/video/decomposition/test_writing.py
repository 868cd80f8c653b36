"""Videos are read as they were written."""

from pathlib import Path

import av
import numpy as np
import pytest

from nid_dist.errors import UserError
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.decomposition.writing import video_name, writing
from nid_dist.tasks.video.frames import Video


def read(path: Path) -> Video:
    return Video(VideoSection.model_validate({"source": "video", "path": str(path)}))


def frames(count: int, channels: int = 3) -> np.ndarray:
    """Smooth, so that a lossy codec has an easy time."""
    rows, columns = np.mgrid[:16, :24] / 24
    return np.stack([np.repeat((0.5 * (rows + columns) * t / count)[..., None], channels, 2) for t in range(count)])


@pytest.mark.parametrize("lossless", [True, False])
def test_there_and_back(tmp_path: Path, lossless: bool) -> None:
    path = tmp_path / video_name("v", lossless)
    with writing(path, 29.97, lossless=lossless) as video:
        for frame in frames(20):
            video.add(frame)
    found = read(path)
    np.testing.assert_allclose(found.read(range(20)), frames(20), atol=0.51 / 255 if lossless else 0.03)
    np.testing.assert_allclose(found.times, np.arange(20) / 29.97, atol=2e-3)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == (("ffv1", "bgr0") if lossless else ("h264", "yuv420p"))


def test_frames_keep_their_times(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.25, 0.3, 1.0]
    with writing(tmp_path / "v.mp4", 5.0) as video:
        for frame, time in zip(frames(5, 1), times, strict=True):
            video.add(frame, time)
    with pytest.warns(UserWarning, match="variable"):
        np.testing.assert_allclose(read(tmp_path / "v.mp4").times, times, atol=1e-4)


def _fails_halfway(path: Path) -> None:
    with writing(path, 5.0) as video:
        video.add(frames(1)[0])
        raise RuntimeError


def test_nothing_is_left_of_a_video_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _fails_halfway(tmp_path / "v.mp4")
    assert not list(tmp_path.iterdir())


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), writing(tmp_path / "file" / "v.mp4", 5.0):
        pass
