"""Stored samples of TIFF files: float and 16-bit pages through tifffile, the others through Pillow."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from tifffile import TiffFile

from nid_dist.data.bombs import refuse_inflating
from nid_dist.data.colour_profiles import doubt_profile
from nid_dist.data.raster import orient, raster_samples, refuse_bomb
from nid_dist.errors import UserError, doubt

# What tifffile has to say about a damaged file is said in the error; without a handler it would also reach stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ORIENTATION, _PROFILE, _NODATA, _DNG = 274, 34675, 42113, 50706  # tags
_MINISWHITE, _MINISBLACK, _RGB = 0, 1, 2
_MOSAICS = (32803, 34892)  # photometric interpretations of raw photographs
_UNSPECIFIED, _ASSOCIATED = 0, 1
_SIGNIFICANT = re.compile(r'SignificantBits="(\d+)"')


def tiff_samples(path: Path) -> Shaped[np.ndarray, "H W c"]:
    """Decode the one page of a TIFF file.

    Returns:
        Upright samples [H, W, c], uint8, uint16 or float; c = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    Raises:
        UserError: several pages, a volume, a raw photograph, sample formats that are neither uint8, uint16 nor float,
            or a compression that only an absent codec could undo.
        Exception: whatever tifffile or Pillow raises on a damaged file.

    Warns:
        DoubtfulMeaning: of pixels that are no data (GDAL), and of colours that are not sRGB's.
    """
    with TiffFile(path) as file:
        page = _only_page(path, file)
        if page.dtype in (np.dtype(np.uint8), np.dtype(bool)):
            plain = raster_samples(path)
            _doubt_nodata(path, page, plain)
            return plain
        _check_samples(path, page)
        _refuse_inflating(path, file, page)
        samples = _page_samples(page)
        if samples is None:
            # Pillow brings its own LZW and JPEG codecs, for the layouts it knows.
            if page.planarconfig != 1 or page.samplesperpixel == 2 or _ASSOCIATED in page.extrasamples:
                raise _missing_codec(path, page)
            samples = raster_samples(path)
            if (samples.dtype == np.uint16) != (page.dtype == np.dtype(np.uint16)):
                raise _missing_codec(path, page)
        if page.photometric == _MINISWHITE:
            samples = samples.copy()
            samples[..., 0] = (65535 if samples.dtype == np.uint16 else 1) - samples[..., 0]
        _doubt_nodata(path, page, samples)
        profile = page.tags.get(_PROFILE)
        doubt_profile(path, None if profile is None else bytes(profile.value), "RGB" if samples.shape[2] > 2 else "L")
        return _widened(file, samples)


def tiff_size(path: Path) -> tuple[int, int]:
    """Read the upright size of a TIFF from its header: (H, W) in pixels, as `tiff_samples` would give them.

    Raises:
        UserError: several pages or too many pixels.
    """
    with TiffFile(path) as file:
        page = _only_page(path, file)
        height, width = page.imagelength, page.imagewidth
        return (width, height) if _orientation(page) in (5, 6, 7, 8) else (height, width)


# `Any`: tifffile's page classes are not all exported, and only documented attributes are used.
def _only_page(path: Path, file: TiffFile) -> Any:
    pages: list[Any] = list(file.pages)
    pictures = sum(not page.is_reduced for page in pages)
    hyperstack = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    count = max(pictures, int(hyperstack))
    if count > 1:
        raise UserError(
            str(path), found=f"{count} pages", expected="one picture per file", hint="save each page as a file"
        )
    page = pages[0]
    if _DNG in page.tags or page.photometric in _MOSAICS or (page.is_reduced and (pictures or page.subifds)):
        raise UserError(
            str(path),
            found="a raw photograph, or a thumbnail before its picture",
            expected="the picture as the first page",
            hint="develop or convert it to an ordinary TIFF, PNG or JPEG",
        )
    refuse_bomb(path, page.imagelength, page.imagewidth)
    return page


def _check_samples(path: Path, page: Any) -> None:
    kind, bits = str(page.dtype), page.bitspersample
    whole = page.dtype is not None and page.dtype.itemsize * 8 == bits
    if not whole or (page.dtype != np.uint16 and page.dtype.kind != "f"):
        raise UserError(
            str(path),
            found=f"{bits}-bit samples of type {kind}",
            expected="uint8, uint16 or float samples",
            hint="convert it to 16-bit or to float in [0, 1]",
        )
    colours = 3 if page.photometric == _RGB else 1
    known = page.photometric in (_MINISWHITE, _MINISBLACK, _RGB) and page.axes in ("YX", "YXS", "SYX")
    if not known or not colours <= page.samplesperpixel <= colours + 1:
        raise UserError(
            str(path),
            found=f"axes {page.axes}, {page.samplesperpixel} samples a pixel, {getattr(page.photometric, 'name', '?')}",
            expected="grey or RGB, with or without alpha",
            hint="convert it to 16-bit RGB",
        )


def _refuse_inflating(path: Path, file: TiffFile, page: Any) -> None:
    kind = {8: "zlib", 32946: "zlib", 34925: "lzma"}.get(int(page.compression))
    if kind is not None:

        def parts() -> Iterator[bytes]:
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                file.filehandle.seek(offset)
                yield file.filehandle.read(count)

        # Tiles may reach beyond the picture.
        refuse_inflating(path, parts(), 4 * page.size * page.dtype.itemsize, kind)


def _page_samples(page: Any) -> Shaped[np.ndarray, "H W c"] | None:
    """Decode the page with tifffile; None where it lacks the codec."""
    try:
        samples = page.asarray()
    except (ValueError, KeyError) as error:
        if "imagecodecs" in str(error):
            return None
        raise
    if page.axes == "YX":
        samples = samples[..., None]
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    extra = tuple(page.extrasamples)
    if extra[:1] == (_UNSPECIFIED,):
        samples = samples[..., :-1]
    if extra[:1] == (_ASSOCIATED,):
        samples = _unassociate(samples)
    return orient(samples, _orientation(page))


def _widened(file: TiffFile, samples: Shaped[np.ndarray, "H W c"]) -> Shaped[np.ndarray, "H W c"]:
    """Samples of microscopes, whose metadata (OME) say of how many of 16 bits they are."""
    said = _SIGNIFICANT.search(file.ome_metadata or "")
    bits = 16 if said is None else int(said[1])
    if samples.dtype != np.uint16 or not 1 <= bits < 16 or int(samples.max()) >= 2**bits:
        return samples
    return samples.astype(np.float32) / np.float32(2**bits - 1)


def _doubt_nodata(path: Path, page: Any, samples: Shaped[np.ndarray, "H W c"]) -> None:
    tag = page.tags.get(_NODATA)
    if tag is None:
        return
    text = str(tag.value).strip("\0 ")
    try:
        share = float((samples == float(text)).all(2).mean())
    except ValueError:
        return
    if share > 0:
        doubt(
            str(path),
            found=f"{share:.1%} of the pixels without data (GDAL_NODATA {text})",
            taken_as="brightnesses like all others",
            hint="fill them first, or name them in a mask",
        )


def _unassociate(samples: Shaped[np.ndarray, "H W c"]) -> Float[np.ndarray, "H W c"]:
    """Undo the multiplication of the colours by alpha."""
    values = samples / 65535.0 if samples.dtype == np.uint16 else samples.astype(np.float64)
    alpha = values[..., -1:]
    colours = np.divide(values[..., :-1], alpha, out=np.zeros_like(values[..., :-1]), where=alpha > 0)
    return np.concatenate([np.minimum(colours, 1.0), alpha], axis=2)


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _missing_codec(path: Path, page: Any) -> UserError:
    return UserError(
        str(path),
        found=f"{page.dtype} samples compressed with {getattr(page.compression, 'name', page.compression)}",
        expected="no compression, or Deflate",
        hint="save it uncompressed or with Deflate (ZIP)",
    )
