"""PNG files written by hand: Pillow writes neither 16-bit colour nor broken files."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_png16(path: Path, samples: np.ndarray, *extra: tuple[bytes, bytes]) -> None:
    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    raw = samples.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    # Filter 1 (Sub): the difference to the byte one pixel to the left.
    left = np.concatenate([np.zeros((height, 2 * channels), int), raw[:, : -2 * channels]], axis=1)
    rows = b"".join(b"\x01" + row.tobytes() for row in ((raw - left) % 256).astype(np.uint8))
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    chunks = [head, *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks))


@pytest.fixture
def png_chunk() -> Callable[[bytes, bytes], bytes]:
    """One chunk of a PNG: (kind, data) -> bytes."""
    return _chunk


@pytest.fixture
def write_png16() -> Callable[..., None]:
    """Write a 16-bit PNG: (path, samples [H, W, c], further (kind, data) chunks before the pixels)."""
    return _write_png16
