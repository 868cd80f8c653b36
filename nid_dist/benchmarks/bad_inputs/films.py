"""Videos: files of frames, and folders of them, through the reader of `nid-decompose`."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.benchmarks.bad_inputs.encoding import by_pillow, png
from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, through, what_was_read
from nid_dist.tasks.video.config import VideoSection
from nid_dist.tasks.video.frames import Video
from nid_dist.tasks.video.synthetic_clip import synthetic_clip

_FRAMES = 8
_ALIKE = 2e-3


def readers() -> Iterator[Reader]:
    """A file, and a folder."""
    film = _file(_frames())
    files = [Meaning(what, {"film/clip.mkv": bad}, truth, _ALIKE) for what, bad, truth in _files()]
    yield Reader(
        "video",
        {"film/clip.mkv": film},
        ["film/clip.mkv"],
        through(_read, "film/clip.mkv"),
        what_was_read,
        share=1.5,
        meanings=files,
    )
    good = _folder()
    folders = [Meaning(what, files, truth, _ALIKE) for what, files, truth in _folders()]
    yield Reader(
        "folder of frames", good, sorted(good)[:2], through(_read, "film"), what_was_read, share=1.5, meanings=folders
    )


def _read(path: Path) -> np.ndarray:
    """A row for each frame: its time, whether it is there, and its pixels."""
    video = Video(VideoSection.model_validate({"source": "video", "path": str(path)}))
    pixels = video.read(range(len(video))).reshape(len(video), -1)
    return np.concatenate([video.times[:, None] - video.times[0], video.present[:, None], pixels], 1)


def _frames() -> np.ndarray:
    frames: np.ndarray = np.round(255 * synthetic_clip(_FRAMES, 32, 48).frames).astype(np.uint8)
    return frames


def _file(frames: np.ndarray, codec: str = "ffv1", form: str = "matroska", times: Sequence[int] | None = None) -> bytes:
    """A film of 25 frames a second, without loss."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for place, frame in enumerate(frames):
            made = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")
            made.pts = place if times is None else times[place]
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _folder(name: str = "frame_{:03d}.png", first: int = 0) -> dict[str, bytes]:
    return {f"film/{name.format(place + first)}": png(frame) for place, frame in enumerate(_frames())}


def _files() -> Iterator[tuple[str, bytes, Files | None]]:
    frames = _frames()
    whole = _file(frames)
    yield "AVI called mkv", _file(frames, form="avi"), {"film/clip.mkv": whole}
    yield "a gap", _file(frames, times=[0, 1, 2, 3, 8, 9, 10, 11]), None
    yield "cut", whole[: len(whole) * 2 // 3], None
    yield "one frame", _file(frames[:1]), None
    yield "a picture called mkv", png(frames[0]), None


def _folders() -> Iterator[tuple[str, Files, Files | None]]:
    good = _folder()
    frames = _frames()
    yield "counted from 1", _folder(first=1), good
    yield "numbers without zeros", _folder("frame_{}.png", 6), good
    yield "a frame missing", {name: content for place, (name, content) in enumerate(good.items()) if place != 3}, None
    yield (
        "several frames missing",
        {name: content for place, (name, content) in enumerate(good.items()) if place not in (2, 3, 6)},
        None,
    )
    yield "a frame cut", {**good, "film/frame_003.png": good["film/frame_003.png"][:200]}, None
    yield "a frame of another size", {**good, "film/frame_003.png": png(frames[3][:-2])}, None
    yield "a cover beside", {**good, "film/cover.jpg": by_pillow(frames[0], "JPEG")}, None
    yield (
        "masks beside",
        {**good, **{f"film/mask_{place:03d}.png": png(frames[place] // 200 * 255) for place in range(_FRAMES)}},
        None,
    )
    yield (
        "two clips below",
        {name.replace("film", f"film/{clip}"): content for clip in "ab" for name, content in good.items()},
        None,
    )
    yield "another format beside", {**good, "film/frame_008.bmp": by_pillow(frames[0], "BMP")}, None
    yield "a film beside", {**good, "film/clip.mkv": b"\x1aE\xdf\xa3"}, None
    yield "notes beside", {**good, "film/notes.txt": b"a note\n"}, None
