"""Videos, written frame by frame: H.264 in MP4 that plays anywhere, or lossless FFV1 in Matroska."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nid_dist.files import replacing

_TICK = Fraction(1, 90000)  # of time: frames of a variable rate keep their times
_QUALITY = "16"  # constant rate factor of H.264: what it loses is not seen


class VideoWriter:
    """One video being written to a container of PyAV, at a rate in frames per second."""

    def __init__(self, container: Any, rate: float, lossless: bool) -> None:
        self._container, self._lossless = container, lossless
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None
        self._frames = 0

    def add(self, frame: Float[np.ndarray, "H W d"], time: float | None = None) -> None:
        """Append a frame, grey or colour in [0, 1]; what is beyond is cut.

        `time` is when it is shown, in seconds after the first, later than the one before; None: at an even rate.
        """
        import av

        pixels = np.round(255 * np.clip(frame, 0, 1)).astype(np.uint8)
        pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        if not self._lossless:
            # Colour is stored at half the resolution: sides must be even.
            pixels = np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
        if self._stream is None:
            self._stream = self._open(pixels.shape[0], pixels.shape[1])
        made = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        made.time_base = _TICK
        made.pts = round((self._frames / self._rate if time is None else Fraction(time)) / _TICK)
        self._frames += 1
        self._container.mux(self._stream.encode(made))

    def close(self) -> None:
        """Write what the encoder has kept back."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())

    def _open(self, height: int, width: int) -> Any:
        codec = "ffv1" if self._lossless else "libx264"
        options = {} if self._lossless else {"crf": _QUALITY, "preset": "medium"}
        stream = self._container.add_stream(codec, rate=self._rate, options=options)
        stream.height, stream.width = height, width
        stream.codec_context.time_base = _TICK
        # Lossless as RGB: the way to luma and chroma and back rounds.
        stream.pix_fmt = "bgr0" if self._lossless else "yuv420p"
        return stream


def video_name(name: str, lossless: bool) -> str:
    """The file of a video, "background.mp4"."""
    return f"{name}.{'mkv' if lossless else 'mp4'}"


@contextmanager
def writing(path: Path, rate: float, *, lossless: bool = False) -> Iterator[VideoWriter]:
    """A video that takes its place when the block ends well, at a rate in frames per second.

    `lossless` keeps every pixel as it is.

    Raises:
        UserError: when it cannot be written.
    """
    import av

    kind = "matroska" if lossless else "mp4"
    with replacing(path) as temporary, av.open(str(temporary), "w", format=kind) as container:
        writer = VideoWriter(container, rate, lossless)
        yield writer
        writer.close()
