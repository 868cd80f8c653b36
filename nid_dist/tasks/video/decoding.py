"""The frames of a video file or of a folder of images, one after the other, never more than one in memory."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from jaxtyping import Float32, Shaped

from nid_dist.data.files import find_files
from nid_dist.data.raster import refuse_bomb
from nid_dist.data.reading import EXTENSIONS, read_image, to_colour, unit_values
from nid_dist.errors import UserError
from nid_dist.files import expanded

_EXPECTED = "a video file, or a folder with its frames as images"
_FOLDER_RATE = 25.0  # frames per second of a folder, whose frames have no times


@dataclass(frozen=True)
class Decoded:
    """A frame."""

    time: float  # in seconds
    image: Float32[np.ndarray, "H W d"] | None  # None: it cannot be decoded


def decode(path: str | Path, colour: Literal["rgb", "grey"]) -> Iterator[Decoded]:
    """Decode all frames in the order in which they are shown; a damaged one keeps its place.

    The path is a file of any format that FFmpeg decodes, or a folder, whose frames are its images, in the order of
    their names with numbers in them read as numbers.

    Raises:
        UserError: when there is no video.
    """
    path = expanded(path)
    if not path.exists():
        raise UserError(f"signals.path {path}", found="nothing", expected=_EXPECTED, hint="check signals.path")
    yield from _decode_folder(path, colour) if path.is_dir() else _decode_file(path, colour)


def in_memory(frames: Shaped[np.ndarray, "T H W c"], colour: Literal["rgb", "grey"]) -> Iterator[Decoded]:
    """The frames of an array of bool, uint8, uint16, or floats in [0, 1], at the rate of a folder's.

    Raises:
        UserError: for other values.
    """
    for place, frame in enumerate(frames):
        yield Decoded(place / _FOLDER_RATE, to_colour(unit_values(f"frame {place}", frame), colour))


def _decode_folder(path: Path, colour: Literal["rgb", "grey"]) -> Iterator[Decoded]:
    names = sorted(find_files(path, EXTENSIONS), key=_natural)
    if not names:
        raise UserError(f"signals.path {path}", found="a folder without images", expected=_EXPECTED, hint="check it")
    for place, name in enumerate(names):
        image = None
        try:
            image = read_image(path / name, colour)
        except UserError as error:
            warnings.warn(f"frame {place} is taken as missing: {error}", stacklevel=2)
        yield Decoded(place / _FOLDER_RATE, image)


def _natural(name: str) -> list[tuple[int, str]]:
    """frame_10 comes after frame_9."""
    words, number = [], ""
    for letter in name + "\0":
        if letter.isascii() and letter.isdigit():
            number += letter
            continue
        if number:
            words.append((int(number), ""))
            number = ""
        words.append((-1, letter))
    return words


def _decode_file(path: Path, colour: Literal["rgb", "grey"]) -> Iterator[Decoded]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise _no_video(path, error) from error
    with file:
        yield from _decode_opened(path, file, colour)


def _decode_opened(path: Path, file: IO[bytes], colour: Literal["rgb", "grey"]) -> Iterator[Decoded]:
    import av  # only here: nothing else needs FFmpeg

    try:
        # A list of other files, or of addresses, that calls itself a video would otherwise have FFmpeg open these.
        container: Any = av.open(file, options={"protocol_whitelist": "none"})
    except (av.error.FFmpegError, OSError) as error:
        raise _no_video(path, error) from error
    with container:
        if not container.streams.video:
            raise UserError(
                f"signals.path {path}",
                found="a file without a video stream",
                expected=_EXPECTED,
                hint="choose a file with pictures in it",
            )
        stream = container.streams.video[0]
        refuse_bomb(path, stream.height or 0, stream.width or 0)
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or stream.guessed_rate or 0) or _FOLDER_RATE
        lost: list[float] = []
        last = -1 / rate
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                at = packet.pts if packet.pts is not None else packet.dts
                lost.append(math.nan if at is None else float(at * packet.time_base))
                continue
            for frame in frames:
                time = last + 1 / rate if frame.time is None else float(frame.time)
                # A frame that could not be decoded is shown before this one.
                for missing in [each for each in lost if not each > time]:
                    lost.remove(missing)
                    at = missing if missing > last else last + 1 / rate
                    if at < time:
                        yield Decoded(at, None)
                        last = at
                # Times that stand still or go back would be two frames at once.
                last = time if time > last else last + 1 / rate
                yield Decoded(last, None if frame.is_corrupt else _pixels(frame, colour))
        for _ in lost:
            last += 1 / rate
            yield Decoded(last, None)


def _no_video(path: Path, error: Exception) -> UserError:
    found = f"a file that is no video ({getattr(error, 'strerror', None) or error})"
    return UserError(f"signals.path {path}", found=found, expected=_EXPECTED, hint="check it")


def _pixels(frame: Any, colour: Literal["rgb", "grey"]) -> Float32[np.ndarray, "H W d"]:
    deep = any(component.bits > 8 for component in frame.format.components)
    samples = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    values = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    turns = round(frame.rotation / 90) % 4
    # A telephone held upright writes lying pictures, and by how much they are to be turned back.
    return to_colour(np.rot90(values, turns) if turns else values, colour)
