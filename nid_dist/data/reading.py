"""One image file to one float32 array: what the file holds becomes grey or RGB in [0, 1], or a clear error."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Shaped
from PIL import Image, UnidentifiedImageError

from nid_dist.data.dicom import dicom_samples, dicom_size, is_dicom
from nid_dist.data.raster import MAX_PIXELS, raster_samples, raster_size, refuse_bomb
from nid_dist.data.tiff import tiff_samples, tiff_size
from nid_dist.errors import UserError
from nid_dist.files import expanded

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy", ".dcm"})

_EXPECTED = "a whole PNG, JPEG, WebP, TIFF, NPY or DICOM file"
_NPY = b"\x93NUMPY"
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Float files written by resizing programs overshoot 1 by rounding; more than this is another scale.
_ROUNDING = 1e-5

_Result = TypeVar("_Result")


def read_image(path: str | Path, colour: Literal["rgb", "grey"]) -> Float32[np.ndarray, "H W d"]:
    """Read an image file, upright, over white where it is transparent: [H, W, d] float32 in [0, 1].

    Args:
        path: a PNG, JPEG, WebP, TIFF, NPY or DICOM file, told apart by content; integers are scaled by 255 or 65535,
            Hounsfield units as `dicom_samples` says.
        colour: `rgb` gives d = 3 (grey repeated); `grey` gives d = 1, the luma of ITU-R BT.601.

    Raises:
        UserError: the file is missing, empty, damaged, not an image, has several pages, too many pixels, or floats
            that are not finite or not in [0, 1].
    """
    path = expanded(path)
    return _guarded(path, lambda magic: to_colour(unit_values(path, _samples(path, magic)), colour))


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


def to_colour(values: Float32[np.ndarray, "H W c"], colour: Literal["rgb", "grey"]) -> Float32[np.ndarray, "H W d"]:
    """Composite over white and bring to the wanted channels: [H, W, 3] or [H, W, 1] in [0, 1].

    The values are in [0, 1] with c = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Luma: ITU-R BT.601,
    0.299 R + 0.587 G + 0.114 B.
    """
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
        raise UserError(
            str(path), found="a file that is no image", expected=_EXPECTED, hint="replace or remove it"
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
        found = f"a file that cannot be read ({type(error).__name__}: {error})"
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
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or 0 in samples.shape:
        raise UserError(
            str(path),
            found=f"an array of shape {samples.shape}",
            expected="[H, W] or [H, W, channels] with 1 to 4 channels",
            hint="save one image per file, channels last",
        )
    refuse_bomb(path, samples.shape[0], samples.shape[1])
    return samples


def unit_values(where: str | Path, samples: Shaped[np.ndarray, "H W c"]) -> Float32[np.ndarray, "H W c"]:
    """Samples that are bool, uint8, uint16, or floats in [0, 1], as numbers in [0, 1].

    Raises:
        UserError: for other types, and floats that are not finite or lie beyond.
    """
    if samples.dtype == np.bool_:
        return samples.astype(np.float32)
    if samples.dtype in (np.uint8, np.uint16):
        return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    if samples.dtype.kind == "f":
        _check_floats(where, np.asarray(samples))
        return np.clip(samples, 0, 1).astype(np.float32)
    raise UserError(
        str(where),
        found=f"samples of type {samples.dtype}",
        expected="uint8, uint16 or float in [0, 1]",
        hint="convert them to one of these types",
    )


def _check_floats(where: str | Path, samples: Float[np.ndarray, "H W c"]) -> None:
    broken = int(samples.size - np.isfinite(samples).sum())
    if broken:
        raise UserError(
            str(where),
            found=f"{broken} samples that are NaN or infinite",
            expected="finite samples in [0, 1]",
            hint="replace them, e.g. by numpy.nan_to_num",
        )
    low, high = float(samples.min()), float(samples.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise UserError(
            str(where),
            found=f"float samples from {low:g} to {high:g}",
            expected="float samples in [0, 1]",
            hint="scale them to [0, 1] before saving",
        )
