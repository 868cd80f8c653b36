"""Colours that a file describes in its own way: what an ICC profile says is applied, the rest is said to be doubtful.

Values are sRGB's (IEC 61966-2-1) everywhere behind the readers. Cameras and telephones write wider spaces, printers
inks, and each says so in a profile (ICC.1:2010) beside the samples.
"""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from nid_dist.errors import doubt

_SAME = 3  # of 255, by which profiles that mean sRGB differ
_SRGB_GAMMA = 0.45455  # that PNG files of sRGB write (gAMA)
_WIDE_TRANSFERS = {16: "PQ", 18: "HLG"}  # of cICP (ITU-T H.273): of displays brighter than sRGB's white


def to_srgb(path: Path, image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an 8-bit picture L, LA, RGB, RGBA or CMYK of a profile to sRGB; CMYK becomes RGB in any case.

    Warns:
        DoubtfulMeaning: where the profile cannot be read, and of inks without one.
    """
    mode = image.mode
    if profile is None:
        if mode != "CMYK":
            return image
        _doubt_inks(path)
        return image.convert("RGB")
    colours = mode.removesuffix("A")
    transform = _transform(profile, colours)
    if isinstance(transform, str):
        doubt_profile(path, profile, colours)
    if transform is None or isinstance(transform, str):
        return image.convert("RGB") if mode == "CMYK" else image
    converted = ImageCms.applyTransform(image.convert(colours), transform)
    assert converted is not None  # only in place there is none
    if colours == "L":
        converted = converted.getchannel(0)  # grey in RGB, too
    if mode.endswith("A"):
        converted.putalpha(image.getchannel("A"))
    return converted


def doubt_profile(path: Path, profile: bytes | None, colours: str) -> None:
    """Warn of a profile that is not applied: of samples of 16 bits, or one that cannot be read.

    Warns:
        DoubtfulMeaning: unless it means sRGB.
    """
    transform = None if profile is None else _transform(profile, colours)
    if profile is None or transform is None:
        return
    doubt(
        str(path),
        found=f"colours of the profile {_name(profile)!r}" if not isinstance(transform, str) else "a broken profile",
        taken_as="sRGB",
        hint="convert it to sRGB if colours matter",
    )


def doubt_encoding(path: Path, image: Image.Image) -> None:
    """Warn of a picture without a profile that says in other words that its samples are not sRGB's.

    Warns:
        DoubtfulMeaning: of another gamma (PNG's gAMA), of a display brighter than sRGB's white (cICP), and of Adobe RGB
            (EXIF, of a camera's option file).
    """
    found = None
    gamma = image.info.get("gamma")
    if image.info.get("icc_profile") is None and "srgb" not in image.info:
        if isinstance(gamma, float) and gamma > 0 and abs(gamma / _SRGB_GAMMA - 1) > 0.05:
            found = "linear light (gAMA 1)" if abs(gamma - 1) < 0.01 else f"samples of gamma {gamma:.4g} (gAMA)"
        elif _is_adobe_rgb(image):
            found = "a camera's Adobe RGB"
    if image.format == "PNG" and (transfer := _transfer(path)) in _WIDE_TRANSFERS:
        found = f"samples of {_WIDE_TRANSFERS[transfer]}, of high dynamic range (cICP)"
    if found:
        doubt(str(path), found=found, taken_as="sRGB", hint="convert it to sRGB if colours matter")


def _doubt_inks(path: Path) -> None:
    doubt(
        str(path),
        found="inks (CMYK) without a profile that says which",
        taken_as="the complements of red, green and blue",
        hint="convert it to sRGB if colours matter",
    )


@lru_cache(maxsize=32)
def _transform(profile: bytes, colours: str) -> ImageCms.ImageCmsTransform | str | None:
    """To sRGB; None where that changes nothing to speak of, and words where the profile is none of such colours."""
    try:
        own = ImageCms.getOpenProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), colours, "RGB")
        if colours == "CMYK":
            return transform
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        shades = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        probe = Image.fromarray(levels[None] if colours == "L" else shades)
        changed = ImageCms.applyTransform(probe, transform)
        assert changed is not None
        before, after = np.asarray(probe.convert("RGB"), int), np.asarray(changed, int)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return str(error)
    return None if int(np.abs(before - after).max()) <= _SAME else transform


def _name(profile: bytes) -> str:
    return " ".join(ImageCms.getProfileDescription(ImageCms.getOpenProfile(io.BytesIO(profile))).split())[:60]


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        exif = image.getexif().get_ifd(ExifTags.IFD.Interop)
        return str(exif.get(1, "")).strip("\0 ") == "R03"
    except Exception:  # a broken EXIF block must not cost the picture
        return False


def _transfer(path: Path) -> int | None:
    """The transfer function in a PNG's chunk cICP, which stands before the pixels."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            if head[4:] == b"cICP":
                return file.read(4)[1]
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return None
