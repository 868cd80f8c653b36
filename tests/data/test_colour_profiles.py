"""Colours of profiles written here byte by byte, against the arithmetic of their definition."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nid_dist.data.reading import read_image
from nid_dist.errors import DoubtfulMeaning

RNG = np.random.default_rng(5)
# Display P3 and sRGB, adapted to D50 by Bradford's transform: columns are the primaries in XYZ (ICC registry).
P3 = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]])
GAMMA = 1.8


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.4, of a display."""
    text = b"own colours"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += padded
    head = bytes(8) + b"\2\x40\0\0" + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    whole = (head + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


CURVE = b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA * 256))
OWN = profile(
    b"RGB ",
    {
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249),
        **{name: b"XYZ " + bytes(4) + fixed(*P3[:, place]) for place, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), CURVE),
    },
)
OWN_GREY = profile(b"GRAY", {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249), b"kTRC": CURVE})


def encoded(linear: np.ndarray) -> np.ndarray:
    """sRGB's curve (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
def test_a_wide_space_is_converted(tmp_path: Path, kind: str) -> None:
    shade = np.array([200, 100, 60])
    options = {"webp": {"lossless": True}, "jpg": {"quality": 98, "subsampling": 0}}.get(kind, {})
    Image.new("RGB", (16, 16), tuple(shade.tolist())).save(tmp_path / f"w.{kind}", icc_profile=OWN, **options)
    expected = encoded(np.linalg.inv(SRGB) @ P3 @ (shade / 255) ** GAMMA)
    assert np.abs(expected - shade / 255).max() > 0.05
    np.testing.assert_allclose(read_image(tmp_path / f"w.{kind}", "rgb")[8, 8], expected, atol=0.012)


def test_alpha_and_palettes_keep_their_place(tmp_path: Path) -> None:
    expected = encoded(np.linalg.inv(SRGB) @ P3 @ (np.array([200, 100, 60]) / 255) ** GAMMA)
    Image.new("RGBA", (2, 2), (200, 100, 60, 51)).save(tmp_path / "a.png", icc_profile=OWN)
    np.testing.assert_allclose(read_image(tmp_path / "a.png", "rgb")[0, 0], 0.8 + 0.2 * expected, atol=0.012)
    image = Image.new("P", (2, 2))
    image.putpalette([200, 100, 60])
    image.save(tmp_path / "p.png", icc_profile=OWN)
    np.testing.assert_allclose(read_image(tmp_path / "p.png", "rgb")[0, 0], expected, atol=0.012)


def test_a_grey_curve_is_converted(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 100).save(tmp_path / "g.png", icc_profile=OWN_GREY)
    expected = encoded(np.array((100 / 255) ** GAMMA))
    np.testing.assert_allclose(read_image(tmp_path / "g.png", "grey"), expected, atol=0.012)


def test_srgb_stays_as_it_is(tmp_path: Path) -> None:
    samples = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(samples).save(tmp_path / "s.png", icc_profile=own)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(read_image(tmp_path / "s.png", "rgb"), samples / 255, atol=1e-7)


def test_what_is_not_applied_is_doubtful(
    tmp_path: Path, write_png16: Callable[..., None], png_chunk: Callable[[bytes, bytes], bytes]
) -> None:
    samples = np.full((2, 3, 3), 30000, np.uint16)
    for name, chunk, words in (
        ("p", (b"iCCP", b"own\0\0" + zlib.compress(OWN)), "colours of the profile 'own colours', taken as sRGB"),
        ("b", (b"iCCP", b"own\0\0" + zlib.compress(b"nothing" * 40)), "a broken profile, taken as sRGB"),
        ("g", (b"gAMA", struct.pack(">I", 100000)), r"linear light \(gAMA 1\), taken as sRGB"),
        ("h", (b"cICP", bytes([9, 16, 0, 1])), "samples of PQ, of high dynamic range"),
    ):
        write_png16(tmp_path / f"{name}.png", samples, chunk)
        with pytest.warns(DoubtfulMeaning, match=f"{name}.png: found {words}"):
            read_image(tmp_path / f"{name}.png", "rgb")
    write_png16(tmp_path / "q.png", samples, (b"gAMA", struct.pack(">I", 45455)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "q.png", "rgb")


def test_inks_without_a_profile_are_doubtful(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    with pytest.warns(DoubtfulMeaning, match="inks \\(CMYK\\) without a profile"):
        read_image(tmp_path / "c.jpg", "rgb")
