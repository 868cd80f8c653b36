"""A video as a sequence of frames that can be read in any order, with memory that does not depend on its length."""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped, UInt16

from nid_dist.errors import UserError
from nid_dist.tasks.images.preparation import prepare, resized
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.decoding import Decoded, decode, in_memory

FrameArray = Float32[np.ndarray, "H W d"]

UNIT = np.float32(1 / 65535)
_UNEVEN = 0.1  # of the usual time between frames, by which an even rate may be missed


class Video:
    """The chosen frames of a video, decoded once into a temporary file (in TMPDIR) that vanishes with the process.

    Codecs can only be read forwards, but a training draws frames at random. What cannot be decoded keeps its place as
    a frame that is missing.

    Args:
        signals: `path`, `colour`, `crop`, `short_side` and `video`.
        frames: the whole video as an array in place of the file, at an even rate; None: `path` is read.

    Attributes:
        times: of each frame, in seconds.
        present: whether there is anything at all of a frame.
        shape: (H, W, d) of a frame.

    Raises:
        UserError: when there is no video, its frames differ in size, or there are fewer than asked for.
    """

    def __init__(self, signals: VideoSection, frames: Shaped[np.ndarray, "N H W c"] | None = None) -> None:
        self.path = Path(signals.path or "").expanduser()
        self.channels = signals.channels
        self._file = tempfile.TemporaryFile(prefix="nid-frames-", buffering=0)  # noqa: SIM115
        times: list[float] = []
        present: list[bool] = []
        self._grid: tuple[int, int] | None = None
        self.grid_shape: tuple[int, int]
        colour = signals.colour
        bits = signals.bits
        whole = decode(self.path, colour, bits) if frames is None else in_memory(frames, colour, bits)
        for place, frame in _chosen(whole, signals):
            times.append(frame.time)
            present.append(frame.image is not None)
            self._keep(frame.image, place, signals)
        self.times: Float64[np.ndarray, "T"] = np.array(times)
        self.present: Bool[np.ndarray, "T"] = np.array(present, bool)
        self._check(signals)
        assert self._grid is not None
        self.grid_shape = self._grid
        self._file.truncate(2 * self.bytes)  # missing frames at the end
        self._warn()

    def __len__(self) -> int:
        """T, the number of frames, missing ones included."""
        return len(self.times)

    @property
    def rate(self) -> float:
        """Frames per second, on average over the chosen ones."""
        return (len(self) - 1) / float(self.times[-1] - self.times[0])

    @property
    def bytes(self) -> int:
        """Of the frames, at 8 bits a sample."""
        return len(self) * self.grid_shape[0] * self.grid_shape[1] * self.channels

    def read(self, frames: Sequence[int]) -> Float32[np.ndarray, "T H W d"]:
        """Read frames: values in [0, 1], zeros where one is missing."""
        out = np.empty((len(frames), *self.grid_shape, self.channels), np.float32)
        for place, frame in enumerate(frames):
            np.multiply(self.samples(frame), UNIT, out=out[place])
        return out

    def samples(self, frame: int) -> UInt16[np.ndarray, "H W d"]:
        """A frame as it is kept: multiples of `UNIT`."""
        shape = (*self.grid_shape, self.channels)
        count = int(np.prod(shape))
        read = os.pread(self._file.fileno(), 2 * count, 2 * count * frame)
        return np.frombuffer(read, np.uint16).reshape(shape)

    def _keep(self, image: FrameArray | None, place: int, signals: VideoSection) -> None:
        """Write a frame into the file, 16 bits a sample."""
        if image is None:
            size = 0 if self._grid is None else 2 * self._grid[0] * self._grid[1] * self.channels
            self._file.seek(size, os.SEEK_CUR)
            return
        name = f"frame {place} of {self.path}"
        image = prepare(image, crop=signals.crop, name=name)
        if signals.short_side is not None and min(image.shape[:2]) > signals.short_side:
            image = prepare(image, short_side=signals.short_side, name=name)  # larger would be no more to see
        if signals.video.size is not None:
            image = resized(image, *signals.video.size)
        if self._grid is None:
            self._grid = (image.shape[0], image.shape[1])
            # Frames before the first good one take their places, too.
            self._file.seek(place_of(place, signals) * 2 * image.size)
        if image.shape[:2] != self._grid:
            raise UserError(
                name,
                found=f"{image.shape[0]}x{image.shape[1]} pixels",
                expected=f"{self._grid[0]}x{self._grid[1]}, as the frames before it",
                hint="remove it, or choose a size for all (signals.video.size)",
            )
        try:
            self._file.write(np.round(image * np.float32(65535)).astype(np.uint16).tobytes())
        except OSError as error:
            raise UserError(
                f"the temporary file of the frames of {self.path}",
                found=error.strerror or str(error),
                expected=f"room for {2 * image.size} bytes a frame",
                hint="set TMPDIR to a folder with room, or choose fewer or smaller frames (signals.video)",
            ) from error

    def _check(self, signals: VideoSection) -> None:
        chosen = signals.video
        if chosen.stop is not None:
            wanted = -(-(chosen.stop - chosen.start) // chosen.stride)
            if len(self) < wanted:
                have = chosen.start + (len(self) - 1) * chosen.stride + 1 if len(self) else "no more"
                raise UserError(
                    f"signals.video.stop {chosen.stop}",
                    found=f"{self.path} with {have} frames",
                    expected="a range within the video",
                    hint="lower it, or set it to null for all frames to the end",
                )
        good = int(self.present.sum())
        if good < 2:
            found = f"{good} frame{'' if good == 1 else 's'}" + (
                f" from frame {chosen.start} on" if chosen.start else ""
            )
            raise UserError(
                f"signals.path {self.path}",
                found=found,
                expected="at least two, as what moves is told from what stays",
                hint="choose another video, a lower signals.video.start or stride; of a picture, train on images",
            )

    def _warn(self) -> None:
        missing = np.flatnonzero(~self.present).tolist()
        if missing:
            shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            warnings.warn(
                f"{self.path}: {len(missing)} of {len(self)} chosen frames cannot be decoded ({shown}); "
                "they are taken as missing, and f fills them in",
                stacklevel=3,
            )
        gaps = np.diff(self.times)
        if self.path.is_dir():
            return  # numbers of frames that are left out have been named
        if np.abs(gaps - np.median(gaps)).max() > _UNEVEN * np.median(gaps):
            warnings.warn(
                f"{self.path}: a variable frame rate, {1 / gaps.max():.4g} to {1 / gaps.min():.4g} per second; "
                "frames are taken at their own times",
                stacklevel=3,
            )


def place_of(frame: int, signals: VideoSection) -> int:
    """Which of the chosen frames one of the whole video is."""
    return (frame - signals.video.start) // signals.video.stride


def _chosen(whole: Iterator[Decoded], signals: VideoSection) -> Iterator[tuple[int, Decoded]]:
    """The frames in the range, by their number in the whole video."""
    chosen = signals.video
    for place, frame in enumerate(whole):
        if chosen.stop is not None and place >= chosen.stop:
            return
        if place >= chosen.start and (place - chosen.start) % chosen.stride == 0:
            yield place, frame
