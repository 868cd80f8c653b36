"""The frames of a video file or of a folder of images, one after the other, never more than one in memory."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from jaxtyping import Float32, Shaped

from nid_dist.data.depth import unit_values
from nid_dist.data.files import listed_files
from nid_dist.data.raster import refuse_bomb
from nid_dist.data.reading import EXTENSIONS, composited, read_image, require_channels_last
from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded
from nid_dist.tasks.video.numbering import RATE, in_order, require_one_clip, times_of

_WIDE_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273
_ENOUGH = 0.95  # share of the frames or seconds that a header promises
_EXPECTED = "a video file, or a folder with its frames as images"


@dataclass(frozen=True)
class Decoded:
    """A frame."""

    time: float  # in seconds
    image: Float32[np.ndarray, "H W d"] | None  # None: it cannot be decoded


def decode(path: str | Path, colour: Literal["rgb", "grey"], bits: int | None = None) -> Iterator[Decoded]:
    """Decode all frames in the order in which they are shown; a damaged one keeps its place.

    The path is a file of any format that FFmpeg decodes, or a folder, whose frames are its images, in the order of
    their names with numbers in them read as numbers. `bits` are those that 16-bit samples of images use; None: all.

    Raises:
        UserError: when there is no video, or a folder has several kinds of images.

    Warns:
        DoubtfulMeaning: when numbers of frames are left out, or their colours are hardly those of sRGB.
    """
    path = expanded(path)
    if not path.exists():
        raise UserError(f"signals.path {path}", found="nothing", expected=_EXPECTED, hint="check signals.path")
    yield from _decode_folder(path, colour, bits) if path.is_dir() else _decode_file(path, colour)


def in_memory(
    frames: Shaped[np.ndarray, "T H W c"], colour: Literal["rgb", "grey"], bits: int | None = None
) -> Iterator[Decoded]:
    """The frames of an array of bool, uint8, uint16, or floats in [0, 1], at the rate of a folder's.

    Raises:
        UserError: for other values or channels.

    Warns:
        DoubtfulMeaning: as of `unit_values`.
    """
    if len(frames):
        require_channels_last("a frame of the video", frames[0])
    if len(frames) and frames.dtype == np.uint16 and bits is None:
        # Of all frames at once: a dark one says nothing of the bits.
        brightest = max(frames, key=np.max)
        unit_values("the video", brightest)
        bits = 16
    for place, frame in enumerate(frames):
        yield Decoded(place / RATE, composited(unit_values(f"frame {place}", frame, bits), colour))


def _decode_folder(path: Path, colour: Literal["rgb", "grey"], bits: int | None) -> Iterator[Decoded]:
    names = in_order(listed_files(path, EXTENSIONS, hint="check signals.path"))
    require_one_clip(path, names)
    times = times_of(path, names)
    for place, name in enumerate(names):
        image = None
        try:
            image = read_image(path / name, colour, bits)
        except UserError as error:
            warnings.warn(f"frame {place} is taken as missing: {error}", stacklevel=2)
        yield Decoded(float(times[place]), image)


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
    except (av.error.FFmpegError, OSError, UnicodeError) as error:  # of its titles, too
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
        if stream.codec_context is None:
            raise UserError(
                f"signals.path {path}",
                found="a video of a kind that nothing here decodes, or a damaged one",
                expected=_EXPECTED,
                hint="convert it, for example with ffmpeg",
            )
        refuse_bomb(path, stream.height or 0, stream.width or 0)
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or stream.guessed_rate or 0) or RATE
        lost: list[float] = []
        last, count = -1 / rate, 0
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                at = packet.pts if packet.pts is not None else packet.dts
                lost.append(math.nan if at is None else float(at * packet.time_base))
                continue
            for frame in frames:
                if not count:
                    _doubt_frame(path, stream, frame)
                count += 1
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
        if count:
            _doubt_end(path, container, count + len(lost), last + 1 / rate)


def _doubt_end(path: Path, container: Any, count: int, end: float) -> None:
    """Warn of fewer frames, or seconds, than are promised by the header of the stream, or of the file with no other."""
    stream = container.streams.video[0]
    seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if not seconds and len(container.streams) == 1 and container.duration:
        seconds = container.duration / 1e6
    found = ""
    if stream.frames and count < _ENOUGH * stream.frames - 1:
        found = f"{count} frames, of {stream.frames} that it promises"
    elif not stream.frames and end < _ENOUGH * seconds - 2 * end / count:
        found = f"{count} frames until {end:.4g} s, of {seconds:.4g} s that it promises"
    if found:
        doubt(str(path), found=found, taken_as="a video that ends there", hint="restore it if it is cut short")


def _doubt_frame(path: Path, stream: Any, frame: Any) -> None:
    """Warn of what a video's frames are besides rows of square pixels in sRGB."""
    aspect = stream.sample_aspect_ratio
    found = {
        "frames of two fields each (interlaced)": frame.interlaced_frame,
        f"colours of {_WIDE_TRANSFERS.get(frame.color_trc)}, of high dynamic range": frame.color_trc in _WIDE_TRANSFERS,
        "frames with alpha": any(component.is_alpha for component in frame.format.components),
        f"pixels of {aspect} of their height in width": aspect not in (None, 0, 1),
    }
    words = [words for words, so in found.items() if so]
    if words:
        doubt(
            str(path),
            found=" and ".join(words),
            taken_as="opaque pictures of square pixels in sRGB",
            hint="convert the video first if that matters (ffmpeg -vf yadif, tonemap or scale)",
        )


def _no_video(path: Path, error: Exception) -> UserError:
    found = f"a file that is no video ({getattr(error, 'strerror', None) or error})"
    return UserError(f"signals.path {path}", found=found, expected=_EXPECTED, hint="check it")


def _pixels(frame: Any, colour: Literal["rgb", "grey"]) -> Float32[np.ndarray, "H W d"]:
    deep = any(component.bits > 8 for component in frame.format.components)
    samples = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
    values = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    turns = round(frame.rotation / 90) % 4
    # A telephone held upright writes lying pictures, and by how much they are to be turned back.
    return composited(np.rot90(values, turns) if turns else values, colour)
