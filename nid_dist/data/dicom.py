"""Slices from DICOM files (pydicom, an optional extra): Hounsfield units become values in [0, 1].

What changes the meaning of stored values is applied: sign and unused bits, the modality transformation wherever the
standard allows it, padding, and MONOCHROME1 (PS3.3, C.7.6.3, C.7.5.1.1 and C.11.1). Windows are one way to look at
values, not their meaning, and are not.
"""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped

from nid_dist.data.bombs import refuse_inflating
from nid_dist.data.raster import refuse_bomb
from nid_dist.errors import UserError, doubt

# Air is 0, water 0.5; what is denser than most bone is cut at 1.
HOUNSFIELD = (-1000.0, 1000.0)

_PADDING = ("PixelPadding", "FloatPixelPadding", "DoubleFloatPixelPadding")
_FIRST_GROUPS = (0x0002, 0x0008)  # that a file without preamble begins with: of its meta information, or of the image
_VALUE_REPRESENTATIONS = frozenset({b"AE", b"CS", b"DA", b"LO", b"OB", b"SH", b"UI", b"UL"})  # of their first elements
_HEADER = 2**26  # bytes that are looked at for what stands before the pixels
_UNEVEN = 0.01  # by which the two sides of a pixel may differ


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM files do, after a preamble of 128 bytes or, against the standard, without it."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 132:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", head[:4])
        implicit = order == "<" and struct.unpack("<I", head[4:8])[0] in range(2, 129, 2)
        if group in _FIRST_GROUPS and element <= 0x0020 and (implicit or head[4:6] in _VALUE_REPRESENTATIONS):
            return True
    return False


def dicom_size(path: Path) -> tuple[int, int]:
    """Rows and columns, from the header alone: (H, W) in pixels.

    Raises:
        UserError: it holds no image, or pydicom is not installed.
    """
    return _size(path, _read(path, pixels=False))


def dicom_samples(path: Path) -> Float32[np.ndarray, "H W 1"]:
    """Read a DICOM file of one grey image, as it is meant to be seen: MONOCHROME1 is inverted.

    CT in Hounsfield units: -1000 to 1000 as 0 to 1, cut; anything else: its own range as 0 to 1. Padding, which is no
    part of the image, is 0, and has no part in that range.

    Raises:
        UserError: it holds no image, several, a colour image, or nothing but padding; its pixels are stored in a way
            that nothing installed can undo; or pydicom is not installed.

    Warns:
        DoubtfulMeaning: of a CT whose values are hardly Hounsfield units, and of pixels that are not square.
    """
    data = _read(path, pixels=True)
    refuse_bomb(path, *_size(path, data))
    _require_one_grey(path, data)
    stored = _stored(path, data)
    padding = _padding(data, stored)
    values = _modality_values(path, data, stored)
    seen = values[~padding]
    if not len(seen):
        raise UserError(str(path), found="nothing but padding", expected="an image", hint="remove it from the folder")
    low, high = HOUNSFIELD if _in_hounsfield(path, data) else (float(seen.min()), float(seen.max()))
    samples = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    if data.PhotometricInterpretation == "MONOCHROME1":
        samples = 1 - samples
    _doubt_sides(path, data)
    shown: np.ndarray = np.where(padding, 0, samples).astype(np.float32)[..., None]
    return shown


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
    with path.open("rb") as file:
        content = io.BytesIO(file.read(-1 if pixels else _HEADER))
    # From memory, which gives what there is where a damaged element asks for gigabytes. By force: without a preamble
    # pydicom would not begin, and what is no DICOM file has been told apart before.
    return pydicom.dcmread(content, stop_before_pixels=not pixels, force=True)


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


def _require_one_grey(path: Path, data: Any) -> None:
    """Refuse what is not one grey image, or is stored in a way that the standard does not allow any more."""
    frames, photometric = int(data.get("NumberOfFrames") or 1), data.get("PhotometricInterpretation")
    if frames > 1:
        raise UserError(
            str(path),
            found=f"{frames} frames, pixels of shape {(frames, *_size(path, data))}",
            expected="one grey slice [rows, columns]",
            hint="save each frame in a file of its own",
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(data.get("SamplesPerPixel") or 1) != 1:
        raise UserError(
            str(path),
            found=f"PhotometricInterpretation {photometric}, {data.get('SamplesPerPixel')} sample(s) per pixel",
            expected="one grey slice (MONOCHROME1 or MONOCHROME2)",
            hint="convert colours to PNG, or remove it from the folder",
        )
    bits, high = data.get("BitsStored"), data.get("HighBit")
    if bits is not None and high is not None and high != bits - 1:
        raise UserError(
            str(path),
            found=f"HighBit {high} with BitsStored {bits}",
            expected=f"HighBit {bits - 1}: values in the low bits",
            hint="convert it, e.g. by dcmconv or dcmdjpeg of DCMTK",
        )


def _stored(path: Path, data: Any) -> Shaped[np.ndarray, "H W"]:
    """The numbers that are stored, with their sign and without bits that are not theirs."""
    from pydicom import uid
    from pydicom.dataset import FileMetaDataset

    if not hasattr(data, "file_meta"):
        data.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    syntax = data.file_meta.TransferSyntaxUID
    try:
        stored = np.asarray(data.pixel_array)
    except (NotImplementedError, RuntimeError) as error:
        # Pillow has a decoder for this syntax, but none of more than 8 bits.
        deep = syntax == uid.JPEGExtended12Bit and int(data.get("BitsAllocated", 8)) > 8
        if not deep and _has_decoder(syntax):
            raise
        raise UserError(
            str(path),
            found=f"pixels as {syntax.name}, and no decoder for them",
            expected="an installed decoder",
            hint=_decoder_hint(syntax),
        ) from error
    if stored.ndim != 2 or not np.isfinite(stored).all():
        found = f"pixels of shape {stored.shape}" if stored.ndim != 2 else "pixels that are NaN or infinite"
        raise UserError(
            str(path), found=found, expected="one grey slice [rows, columns] of numbers", hint="remove or repair it"
        )
    return stored


def _has_decoder(syntax: Any) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _decoder_hint(syntax: Any) -> str:
    from pydicom.pixels.decoders import pylibjpeg

    packages = pylibjpeg.DECODER_DEPENDENCIES.get(syntax, ())
    if not packages:
        return "convert it to an uncompressed transfer syntax"
    words = " ".join(repr(package) for package in packages)
    return f"pip install {words} (or gdcm), or convert it to an uncompressed transfer syntax"


def _padding(data: Any, stored: Shaped[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Which pixels only fill the rectangle: a value, or a range of values, of those that are stored."""
    for name in _PADDING:
        value = data.get(f"{name}Value")
        if value is None:
            continue
        limit = data.get(f"{name}RangeLimit")
        ends = sorted(_as_stored(float(end), data, stored) for end in (value, value if limit is None else limit))
        return (stored >= ends[0]) & (stored <= ends[1])
    return np.zeros(stored.shape, bool)


def _as_stored(value: float, data: Any, stored: Shaped[np.ndarray, "H W"]) -> float:
    """A number of the header with the sign of those stored: scanners write 63536 where they mean -2000."""
    if stored.dtype.kind == "f":
        return value
    whole = 2.0 ** int(data.BitsAllocated)
    if data.get("PixelRepresentation") == 1:
        return value - whole if value >= whole / 2 else value
    return value + whole if value < 0 else value


def _modality_values(path: Path, data: Any, stored: Shaped[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """Stored numbers in the units of the modality, by a table or by slope and intercept."""
    from pydicom.pixels import apply_modality_lut

    _lift_rescale(data)
    if data.get("ModalityLUTSequence"):
        table = data.ModalityLUTSequence[0]
        entries, first, _ = table.LUTDescriptor
        # Tables of 12 bits, which the standard allows, are none of numpy's types; 16 hold all.
        table.LUTDescriptor = [entries, int(_as_stored(float(first), data, stored)), 16]
    elif "RescaleSlope" in data or "RescaleIntercept" in data:
        slope, intercept = (data.get("RescaleSlope"), data.get("RescaleIntercept"))
        data.RescaleSlope, data.RescaleIntercept = 1 if slope is None else slope, 0 if intercept is None else intercept
        if not float(data.RescaleSlope):
            raise UserError(
                str(path), found="RescaleSlope 0", expected="another number", hint="restore it from the scanner"
            )
    whole = stored if stored.dtype.kind == "f" else stored.astype(np.int64)
    values: np.ndarray = np.asarray(apply_modality_lut(whole, data)).astype(np.float64)
    return values


def _lift_rescale(data: Any) -> None:
    """Enhanced objects keep the transformation in the groups of the frame, or in those that all frames share."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (data.get(groups) or [])[:1]:
            for transformation in (group.get("PixelValueTransformationSequence") or [])[:1]:
                for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
                    if name in transformation:
                        data[name] = transformation[name]
                return


def _in_hounsfield(path: Path, data: Any) -> bool:
    if data.get("Modality") != "CT":
        return False
    units = data.get("RescaleType") or "HU"
    if data.get("ModalityLUTSequence"):
        units = data.ModalityLUTSequence[0].get("ModalityLUTType") or "HU"
    elif "RescaleIntercept" not in data:
        doubt(
            str(path),
            found="a CT without RescaleIntercept",
            taken_as="Hounsfield units as they are stored",
            hint="restore the header if the slice comes out too bright",
        )
    if units != "HU":
        doubt(
            str(path),
            found=f"a CT in units {units}",
            taken_as="values of a range of their own, 0 to 1",
            hint="scale it to Hounsfield units (HU) if slices are to be comparable",
        )
    elif data.PhotometricInterpretation == "MONOCHROME1":
        doubt(
            str(path),
            found="a CT in Hounsfield units as MONOCHROME1",
            taken_as="a picture in which air is white",
            hint="set MONOCHROME2 if air is to be 0, as in other slices",
        )
    return bool(units == "HU")


def _doubt_sides(path: Path, data: Any) -> None:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        sides = data.get(name)
        if not sides or len(sides) != 2:
            continue
        rows, columns = (float(side) for side in sides)
        if abs(rows - columns) > _UNEVEN * max(rows, columns):
            doubt(
                str(path),
                found=f"{name} {rows:g}\\{columns:g}",
                taken_as="square pixels",
                hint="resample it first if shapes matter",
            )
        return
