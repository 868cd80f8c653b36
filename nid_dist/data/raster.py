"""Stored samples of PNG, JPEG and WebP files (and of plain TIFF pages) through Pillow, at their full bit depth."""

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import ExifTags, Image

from nid_dist.data.colour_profiles import doubt_encoding, doubt_profile, to_srgb
from nid_dist.errors import UserError

# Beyond this a float32 colour image needs more than 2 GiB; Pillow itself refuses from here on.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")

# Pillow keeps only the high byte of 16-bit colour. Decoding once more with the other byte order yields the low byte;
# 16-bit grey with alpha has no such twin, but its four bytes are those of an 8-bit RGBA pixel.
_LOW_BYTE = {
    f"{colour};16{order}": f"{colour};16{other}"
    for colour in ("RGB", "RGBX", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}

_LEVELS = {"L;2": 85, "L;4": 17}  # by which the samples of a grey PNG of few bits are multiplied


def orient(samples: Shaped[np.ndarray, "H W c"], orientation: int) -> Shaped[np.ndarray, "H1 W1 c"]:
    """Turn stored samples upright; a view where possible.

    The orientation is the EXIF/TIFF tag 274; values other than 2..8 leave the samples as they are.
    """
    transposed = samples.swapaxes(0, 1)
    turned = {
        2: samples[:, ::-1],
        3: samples[::-1, ::-1],
        4: samples[::-1],
        5: transposed,
        6: transposed[:, ::-1],
        7: transposed[::-1, ::-1],
        8: transposed[::-1],
    }
    return turned.get(orientation, samples)


def refuse_bomb(path: Path, height: int, width: int) -> None:
    """Refuse an image whose header promises more pixels than memory should be asked for.

    Raises:
        UserError: more than `MAX_PIXELS` pixels.
    """
    if height * width > MAX_PIXELS:
        raise UserError(
            str(path),
            found=f"{height}x{width} pixels",
            expected=f"at most {MAX_PIXELS} pixels (a decompression bomb?)",
            hint="remove it, scale it down or cut it into parts",
        )


def raster_samples(path: Path) -> Shaped[np.ndarray, "H W c"]:
    """Decode a PNG, JPEG, WebP or (single-page) TIFF file with Pillow.

    Returns:
        Upright samples [H, W, c], uint8, uint16 or float32; c = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    Raises:
        UserError: an animation, or a colour mode that has no RGB equivalent here.
        Exception: whatever Pillow raises on a damaged file.

    Warns:
        DoubtfulMeaning: of colours that are said to be others than sRGB's and are not converted.
    """
    with _opened(path) as image:
        # Phones store a second picture (a depth or gain map) in a JPEG; the first one is the photograph.
        if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
            raise UserError(
                str(path), found="an animation", expected="one picture", hint="save one frame of it as a file"
            )
        rawmode = _rawmode(image)
        image.load()
        key, profile = image.info.get("transparency"), image.info.get("icc_profile")
        doubt_encoding(path, image)
        if ";16" in rawmode:
            doubt_profile(path, profile, "L" if rawmode.startswith(("I", "L")) else "RGB")
            samples = _sixteen_bits(path, image, rawmode)
            if key is not None:
                samples = _key_to_alpha(samples, np.atleast_1d(np.asarray(key)))
        else:
            if image.mode == "L" and rawmode in _LEVELS:
                # Pillow widens the samples of few bits, but not the one that is transparent.
                image.info["transparency"] = None if key is None else key * _LEVELS[rawmode]
            plain = _plain(path, image, keyed=key is not None)
            samples = np.asarray(plain if plain.mode == "F" else to_srgb(path, plain, profile))
        return orient(samples[..., None] if samples.ndim == 2 else samples, _orientation(image))


def raster_size(path: Path) -> tuple[int, int]:
    """The upright (H, W) of a PNG, JPEG or WebP from its header, as `raster_samples` would give them."""
    with _opened(path) as image:
        width, height = image.size
        # Asking a PNG for its EXIF decodes the whole picture; only those with such a chunk pay for that.
        if width == height or (image.format == "PNG" and not _png_has_metadata(path)):
            return height, width
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    # By a file object: given a name, Pillow maps plain TIFFs into memory and garbles those with an orientation of 5..8.
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        yield image


def _rawmode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return image.mode
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block must not cost the picture
        return 1


def _plain(path: Path, image: Image.Image, *, keyed: bool) -> Image.Image:
    """Convert 8-bit and float pictures of any mode to L, LA, RGB, RGBA, CMYK or F."""
    mode = image.mode
    if mode in ("F", "CMYK") or (mode in ("L", "LA", "RGB", "RGBA") and not keyed):
        return image
    if mode in ("1", "L"):
        return image.convert("LA" if keyed else "L")
    if mode == "La":
        return image.convert("LA")
    if mode in ("P", "PA", "RGB", "RGBa"):
        return image.convert("RGBA" if keyed or mode != "P" else "RGB")
    if mode in ("YCbCr", "RGBX"):
        return image.convert("RGB")
    raise UserError(
        str(path),
        found=f"colour mode {mode}",
        expected="grey, RGB, palette or CMYK, with or without alpha",
        hint="convert it to 8- or 16-bit RGB",
    )


def _sixteen_bits(path: Path, image: Image.Image, rawmode: str) -> Shaped[np.ndarray, "H W c"]:
    if rawmode.startswith("I;16") and not rawmode.endswith("S"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if rawmode == "LA;16B":
        pairs = np.ascontiguousarray(_decoded_as(path, "RGBA"))
        return pairs.view(">u2").astype(np.uint16)
    if rawmode in _LOW_BYTE:
        return np.asarray(image).astype(np.uint16) * 256 + _decoded_as(path, _LOW_BYTE[rawmode])
    raise UserError(
        str(path),
        found=f"16-bit samples stored as {rawmode}",
        expected="unsigned 16-bit grey or RGB, with or without alpha",
        hint="convert it to 16-bit RGB",
    )


def _decoded_as(path: Path, rawmode: str) -> Shaped[np.ndarray, "H W c"]:
    """Decode the file with another interpretation of its bytes."""
    with _opened(path) as image:
        image.tile = [  # type: ignore[attr-defined]
            tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
            for tile in image.tile  # type: ignore[attr-defined]
        ]
        return np.array(image)


def _key_to_alpha(samples: Shaped[np.ndarray, "H W c"], key: Shaped[np.ndarray, " c"]) -> Shaped[np.ndarray, "H W c1"]:
    opaque = (samples != key).any(axis=2, keepdims=True)
    return np.concatenate([samples, opaque * np.uint16(65535)], axis=2)


def _png_has_metadata(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            file.seek(length + 4, 1)
    return False
