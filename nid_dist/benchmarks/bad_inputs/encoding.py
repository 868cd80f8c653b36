"""Good files of pictures, written by other libraries or by hand, so that what they hold is known."""

import io
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import skimage.data
import tifffile
from jaxtyping import Shaped, UInt8
from PIL import Image
from skimage.transform import resize

_SIDES = (40, 48)


@cache
def photograph() -> UInt8[np.ndarray, "40 48 3"]:
    """A portrait in few pixels."""
    face = skimage.data.astronaut()[:220, 100:364]
    small: np.ndarray = np.round(255 * resize(face, _SIDES, anti_aliasing=True)).astype(np.uint8)
    return small


def grey() -> UInt8[np.ndarray, "40 48"]:
    """The same without colour (ITU-R BT.601)."""
    values: np.ndarray = np.round(photograph() @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return values


def png(values: Shaped[np.ndarray, "H W *c"], chunks: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG of 8 or 16 bits a sample, grey, grey and alpha, RGB or RGBA; `chunks` come after its header."""
    samples = values[..., None] if values.ndim == 2 else values
    height, width, channels = samples.shape
    bits = 8 * samples.dtype.itemsize
    rows = samples.astype(f">u{samples.dtype.itemsize}").tobytes()
    size = len(rows) // height
    lines = b"".join(b"\0" + rows[at : at + size] for at in range(0, len(rows), size))
    header = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def by_pillow(image: UInt8[np.ndarray, "H W *c"] | Image.Image, form: str, **options: Any) -> bytes:
    """A file of a format that Pillow writes."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def tiff(values: Shaped[np.ndarray, "*shape"], **options: Any) -> bytes:
    """A TIFF that tifffile writes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def npy(values: np.ndarray) -> bytes:
    """An NPY file."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    """EXIF that says how a picture lies."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif
