"""One image file to one float32 array: what the file holds becomes grey or RGB in [0, 1], or a clear error."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float32, Shaped
from PIL import Image, UnidentifiedImageError

from nid_dist.data.depth import unit_values
from nid_dist.data.dicom import dicom_samples, dicom_size, is_dicom
from nid_dist.data.raster import MAX_PIXELS, raster_samples, raster_size, refuse_bomb
from nid_dist.data.tiff import tiff_samples, tiff_size
from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy", ".dcm"})

_EXPECTED = "a whole PNG, JPEG, WebP, TIFF, NPY or DICOM file"
_NPY = b"\x93NUMPY"
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_TELLING = 0.5  # share of an alpha channel's pixels that are either opaque or transparent, at least
_SAID = 200  # letters of a decoder's error that are shown
# What is told apart by its first bytes, so that it can be named.
_OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"8BPS": "a Photoshop file",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"%PDF": "PDF",
    b"SIMPLE  =": "FITS",
    b"\x89HDF": "HDF5",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a ZIP archive",
}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"crx ": "raw (CR3)"}

_Result = TypeVar("_Result")


def read_image(
    path: str | Path, colour: Literal["rgb", "grey"], bits: int | None = None
) -> Float32[np.ndarray, "H W d"]:
    """Read an image file, upright, over white where it is transparent: [H, W, d] float32 in [0, 1].

    Args:
        path: a PNG, JPEG, WebP, TIFF, NPY or DICOM file, told apart by content; integers are scaled by 255 or 65535,
            Hounsfield units as `dicom_samples` says, and 8-bit colours of an ICC profile are converted to sRGB.
        colour: `rgb` gives d = 3 (grey repeated); `grey` gives d = 1, the luma of ITU-R BT.601.
        bits: how many of the 16 of 16-bit samples are used; None: all.

    Raises:
        UserError: the file is missing, empty, damaged, not an image, has several pages, too many pixels, floats that
            are not finite or not in [0, 1], or samples of more bits.

    Warns:
        DoubtfulMeaning: of what it says of its samples, where that is hardly so or cannot be applied.
    """
    return composited(_values(expanded(path), bits), colour)


def read_with_alpha(
    path: str | Path, colour: Literal["rgb", "grey"], bits: int | None = None
) -> tuple[Float32[np.ndarray, "H W d"], Float32[np.ndarray, "H W"] | None]:
    """Read an image file as `read_image` does, over nothing: its colours, and its alpha; None where it is opaque.

    Where nothing is seen of the colours, they are white.
    """
    values = _values(expanded(path), bits)
    if values.shape[2] not in (2, 4) or (values[..., -1] == 1).all():
        return composited(values, colour), None
    alpha = values[..., -1].copy()
    values[..., :-1][alpha == 0] = 1
    return composited(values[..., :-1], colour), alpha


def _values(path: Path, bits: int | None) -> Float32[np.ndarray, "H W c"]:
    return _guarded(path, lambda magic: unit_values(path, _samples(path, magic), bits))


def image_size(path: str | Path) -> tuple[int, int]:
    """Read the size that `read_image` would give, from the header alone where possible: (H, W) in pixels.

    Raises:
        UserError: the file is missing, empty or not an image.
    """
    path = expanded(path)

    def size(magic: bytes) -> tuple[int, int]:
        if magic.startswith(_NPY):
            height, width, _ = _npy_samples(path).shape
            return height, width
        if is_dicom(magic):
            return dicom_size(path)
        return tiff_size(path) if magic.startswith(_TIFF) else raster_size(path)

    return _guarded(path, size)


def to_colour(values: Shaped[np.ndarray, "H W c"], colour: Literal["rgb", "grey"]) -> Float32[np.ndarray, "H W d"]:
    """Composite over white and bring to the wanted channels: [H, W, 3] or [H, W, 1] in [0, 1].

    The values are as for `unit_values`, with c = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Luma: ITU-R BT.601,
    0.299 R + 0.587 G + 0.114 B.

    Raises:
        UserError: for other channels or values.
    """
    require_channels_last("the image", values)
    return composited(unit_values("the image", values), colour)


def composited(values: Float32[np.ndarray, "H W c"], colour: Literal["rgb", "grey"]) -> Float32[np.ndarray, "H W d"]:
    """As `to_colour`, of values that are known to be in [0, 1]."""
    if values.shape[2] in (2, 4):
        alpha = values[..., -1:]
        values = values[..., :-1] * alpha + (1 - alpha)
    if colour == "grey" and values.shape[2] == 3:
        values = (values @ _LUMA)[..., None]
    if colour == "rgb" and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return np.ascontiguousarray(np.clip(values, 0, 1))


def _guarded(path: Path, action: Callable[[bytes], _Result]) -> _Result:
    """Run a decoder; every way in which a file can be wrong becomes a UserError that names it."""
    try:
        if not path.exists():
            raise UserError(str(path), found="no such file", expected=_EXPECTED, hint="check the path")
        if not path.is_file():
            raise UserError(str(path), found="something that is no file", expected=_EXPECTED, hint="name a file")
        with path.open("rb") as file:
            magic = file.read(132)  # DICOM's comes after a preamble
        if not magic:
            raise UserError(str(path), found="an empty file", expected=_EXPECTED, hint="replace or remove it")
        return action(magic)
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:
        kind = _other_kind(path)
        raise UserError(
            str(path),
            found="a file that is no image" + (f" that is read: {kind}" if kind else ""),
            expected=_EXPECTED,
            hint="convert it" if kind else "replace or remove it",
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(
            str(path),
            found="far too many pixels",
            expected=f"at most {MAX_PIXELS} pixels (a decompression bomb?)",
            hint="remove it, scale it down or cut it into parts",
        ) from None
    # Damaged bytes make decoders raise anything, from struct.error to IndexError.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        found = f"a file that cannot be read ({reason if len(reason) <= _SAID else reason[:_SAID] + ' ...'})"
        raise UserError(str(path), found=found, expected=_EXPECTED, hint="replace or remove it") from error


def _samples(path: Path, magic: bytes) -> Shaped[np.ndarray, "H W c"]:
    if magic.startswith(_NPY):
        return _npy_samples(path)
    if is_dicom(magic):
        return dicom_samples(path)
    return tiff_samples(path) if magic.startswith(_TIFF) else raster_samples(path)


def _npy_samples(path: Path) -> Shaped[np.ndarray, "H W c"]:
    # Mapped, so that neither a size query nor a lying header allocates anything.
    samples = np.load(path, mmap_mode="r", allow_pickle=False)
    if samples.ndim == 2:
        samples = samples[..., None]
    require_channels_last(str(path), samples)
    refuse_bomb(path, samples.shape[0], samples.shape[1])
    if samples.shape[2] in (2, 4):
        _doubt_alpha(path, samples[..., -1])
    return samples


def require_channels_last(where: str, samples: Shaped[np.ndarray, "..."]) -> None:
    """Refuse an array that is no image [H, W, channels].

    Raises:
        UserError: for another shape.
    """
    if samples.ndim == 3 and samples.shape[2] in (1, 2, 3, 4) and 0 not in samples.shape:
        return
    first = samples.ndim == 3 and samples.shape[0] in (1, 2, 3, 4)
    raise UserError(
        where,
        found=f"an array of shape {samples.shape}",
        expected="[H, W] or [H, W, channels] with 1 to 4 channels",
        hint="give channels last: numpy.moveaxis(image, 0, -1)" if first else "give one image, channels last",
    )


def _doubt_alpha(path: Path, alpha: Shaped[np.ndarray, "H W"]) -> None:
    """An array does not say what its channels are; of alpha, most is all or nothing."""
    opaque = 1 if alpha.dtype.kind in "fb" else np.iinfo(alpha.dtype).max
    if float(((alpha == 0) | (alpha == opaque)).mean()) < _TELLING:
        doubt(
            str(path),
            found="a last channel that is hardly opaque or transparent anywhere",
            taken_as="alpha, over white",
            hint="save grey or three channels if it means something else",
        )


def _other_kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a film, or pictures in its container")
    return next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), None)
