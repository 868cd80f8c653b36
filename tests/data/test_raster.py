import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nid_dist.data.raster import MAX_PIXELS, orient, raster_samples, raster_size, refuse_bomb
from nid_dist.errors import UserError

RNG = np.random.default_rng(0)


Writer = Callable[..., None]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_keeps_all_bits(tmp_path: Path, write_png16: Writer, channels: int) -> None:
    samples = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    write_png16(tmp_path / "deep.png", samples)
    read = raster_samples(tmp_path / "deep.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, samples)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_transparent_colour_becomes_alpha(tmp_path: Path, write_png16: Writer, channels: int) -> None:
    samples = RNG.integers(0, 65536, (3, 4, channels), dtype=np.uint16)
    key = samples[1, 2]
    write_png16(tmp_path / "keyed.png", samples, (b"tRNS", key.astype(">u2").tobytes()))
    read = raster_samples(tmp_path / "keyed.png")
    alpha = np.full((3, 4), 65535)
    alpha[1, 2] = 0
    np.testing.assert_array_equal(read[..., :-1], samples)
    np.testing.assert_array_equal(read[..., -1], alpha)


# Where the pixel that is stored first (top left) and the next one in its row belong, for each EXIF orientation, as
# the standard says: 1 top-left, 2 top-right, 3 bottom-right, 4 bottom-left, 5 left-top, 6 right-top, 7 right-bottom,
# 8 left-bottom.
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orient(orientation: int) -> None:
    stored = np.array([[1, 2, 3], [4, 5, 6]])[..., None]
    np.testing.assert_array_equal(orient(stored, orientation)[..., 0], UPRIGHT[orientation])


def test_unknown_orientation_leaves_the_image() -> None:
    stored = np.arange(6).reshape(2, 3, 1)
    np.testing.assert_array_equal(orient(stored, 0), stored)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = np.repeat(np.repeat(np.array([[10, 80, 150], [45, 115, 220]], np.uint8), 16, 0), 16, 1)
    image = Image.fromarray(stored).convert("RGB")
    exif = image.getexif()
    exif[274] = orientation
    path = tmp_path / f"turned.{suffix}"
    image.save(path, exif=exif, lossless=True)
    read = raster_samples(path)
    values = np.array([0, 10, 80, 150, 45, 115, 220])
    expected = np.repeat(np.repeat(values[np.array(UPRIGHT[orientation])], 16, 0), 16, 1)
    assert raster_size(path) == read.shape[:2] == expected.shape
    assert np.abs(read[..., 0].astype(int) - expected).max() <= 3


def test_png_with_text_and_no_exif_has_its_stored_size(tmp_path: Path, write_png16: Writer) -> None:
    write_png16(tmp_path / "t.png", np.zeros((2, 3, 1), np.uint16), (b"tEXt", b"Comment\x00hello"))
    assert raster_size(tmp_path / "t.png") == (2, 3)


def test_broken_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / "b.jpg", exif=b"Exif\x00\x00garbage-garbage")
    assert raster_samples(tmp_path / "b.jpg").shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255]),
        ("L", 7, [7]),
        ("LA", (7, 9), [7, 9]),
        ("P", 0, [0, 0, 0]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 4), [1, 2, 3, 4]),
    ],
)
def test_modes_of_png(tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: list[int]) -> None:
    image = Image.new(mode, (2, 1), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(raster_samples(tmp_path / "m.png")[0, 1], expected)


@pytest.mark.parametrize(("mode", "key", "channels"), [("L", 7, 2), ("RGB", (7, 7, 7), 4), ("P", 1, 4), ("1", 0, 2)])
def test_transparent_colour_becomes_alpha(tmp_path: Path, mode: str, key: int | tuple, channels: int) -> None:
    image = Image.new(mode, (2, 1), key)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9])
    others: dict[str, int | tuple[int, ...]] = {"L": 8, "RGB": (8, 8, 8), "P": 0, "1": 255}
    image.putpixel((0, 0), others[mode])
    image.save(tmp_path / "k.png", transparency=key)
    read = raster_samples(tmp_path / "k.png")
    assert read.shape == (1, 2, channels)
    assert read[0, :, -1].tolist() == [255, 0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits(tmp_path: Path, png_chunk: Callable[[bytes, bytes], bytes], bits: int) -> None:
    """The samples 1 and 0 of so many bits, of which 1 is transparent."""
    head = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    row = bytes([0, *((1, 0) if bits == 8 else (1 << (8 - bits),))])
    chunks = [(b"IHDR", head), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    (tmp_path / "k.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    assert raster_samples(tmp_path / "k.png").tolist() == [[[255 // (2**bits - 1), 0], [0, 255]]]


def test_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="a.webp: found an animation"):
        raster_samples(tmp_path / "a.webp")


def test_refuse_bomb() -> None:
    refuse_bomb(Path("x.png"), 1, MAX_PIXELS)
    with pytest.raises(UserError, match="x.png: found 2x"):
        refuse_bomb(Path("x.png"), 2, MAX_PIXELS)
