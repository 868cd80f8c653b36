"""Slices from DICOM files (pydicom, an optional extra): Hounsfield units become values in [0, 1]."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from nid_dist.data.bombs import refuse_inflating
from nid_dist.data.raster import refuse_bomb
from nid_dist.errors import UserError

# Air is 0, water 0.5; what is denser than most bone is cut at 1.
HOUNSFIELD = (-1000.0, 1000.0)


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM files do, after a preamble of 128 bytes."""
    return head[128:132] == b"DICM"


def dicom_size(path: Path) -> tuple[int, int]:
    """Rows and columns, from the header alone: (H, W) in pixels.

    Raises:
        UserError: it holds no image, or pydicom is not installed.
    """
    return _size(path, _read(path, pixels=False))


def dicom_samples(path: Path) -> Float32[np.ndarray, "H W 1"]:
    """Read a DICOM file of one grey image.

    CT: Hounsfield units from -1000 to 1000 as 0 to 1, cut; anything else: its own range as 0 to 1.

    Raises:
        UserError: it holds no image, several, or a colour image; or pydicom is not installed.
    """
    data = _read(path, pixels=True)
    refuse_bomb(path, *_size(path, data))
    stored = np.asarray(data.pixel_array)
    if stored.ndim != 2:
        raise UserError(
            str(path),
            found=f"pixels of shape {stored.shape}",
            expected="one grey slice [rows, columns]",
            hint="save each slice in a file of its own",
        )
    values = stored.astype(np.float64) * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    low, high = HOUNSFIELD if data.get("Modality") == "CT" else (float(values.min()), float(values.max()))
    samples: np.ndarray = np.clip((values - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)[..., None]
    return samples


def _read(path: Path, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError:
        raise UserError(
            str(path),
            found="a DICOM file, but no pydicom to read it with",
            expected="the optional package",
            hint="pip install 'nid_dist[dicom]'",
        ) from None
    _refuse_inflating(path)
    return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _refuse_inflating(path: Path) -> None:
    """Refuse a deflated file that pydicom would need far too much memory for, before it takes all of it."""
    from pydicom.filereader import _read_file_meta_info, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with path.open("rb") as file:
        read_preamble(file, force=True)
        if _read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            refuse_inflating(path, [file.read()], 0, "deflate")


def _size(path: Path, data: Any) -> tuple[int, int]:
    if not data.get("Rows") or not data.get("Columns"):
        raise UserError(
            str(path), found="a DICOM file without an image", expected="a slice", hint="remove it from the folder"
        )
    return int(data.Rows), int(data.Columns)
