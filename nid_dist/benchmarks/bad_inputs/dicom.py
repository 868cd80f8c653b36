"""DICOM: attributes that change what stored values mean (PS3.3 C.7.6.3, C.11.1, C.7.5.1.1)."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.benchmarks.bad_inputs.encoding import grey, photograph
from nid_dist.benchmarks.bad_inputs.pictures import fit_folder, fitted
from nid_dist.benchmarks.bad_inputs.reader import Meaning, Reader

_ALIKE = 0.01
_AIR, _STEP = -1000.0, 2000 / 255  # Hounsfield units of black, and from one grey to the next


def reader(dictionary: Path) -> Reader:
    """Slices of CT and MR, read by `nid-fit`."""
    good = {"a.dcm": dicom(_stored())}
    meanings = [
        Meaning(what, {"a.dcm": bad}, None if twin is None else {"a.dcm": twin}, _ALIKE)
        for what, bad, twin in _meanings()
    ]
    return Reader("dicom", good, ["a.dcm"], partial(fit_folder, dictionary), fitted, share=0.5, meanings=meanings)


def _stored() -> np.ndarray:
    """A slice as scanners store it, 12 bits, 1024 above Hounsfield units."""
    return np.round(_AIR + _STEP * grey() + 1024).astype(np.uint16)


def dicom(
    stored: np.ndarray, *, preamble: bool = True, syntax: str = "ExplicitVRLittleEndian", **attributes: Any
) -> bytes:
    """A slice of CT, 12 bits in 16; attributes are set besides, or (None) left out."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3")
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3"
    data.Rows, data.Columns = stored.shape[:2]
    usual: dict[str, Any] = {
        "Modality": "CT",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "BitsAllocated": 8 * stored.dtype.itemsize,
        "BitsStored": 12 if stored.dtype.itemsize == 2 else 8,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    for name, value in (usual | attributes).items():
        if value is not None:
            setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data.PixelData = stored.tobytes()
    if syntax == "RLELossless":
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.compress(pydicom.uid.RLELossless)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=preamble)
    content = buffer.getvalue()
    return content if preamble else content[content.index(b"DICM") + 4 :] if content[128:132] == b"DICM" else content


def _sequence(**attributes: Any) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return Sequence([item])


def _meanings() -> Iterator[tuple[str, bytes, bytes | None]]:
    """What is wrong, a file, and one that says the same in plain words."""
    stored = _stored()
    plain = dicom(stored)
    film: dict[str, Any] = {"Modality": "CR", "RescaleSlope": None, "RescaleIntercept": None}
    negative: dict[str, Any] = {**film, "PhotometricInterpretation": "MONOCHROME1"}
    yield "MONOCHROME1", dicom(4095 - stored, **negative), dicom(stored, **film)
    yield "without a preamble", dicom(stored, preamble=False), plain
    yield "signed", dicom((stored.astype(np.int16) - 1024), RescaleIntercept=0), plain
    yield "a slope of a half", dicom(2 * stored, RescaleSlope=0.5, BitsStored=16), plain
    yield "run lengths", dicom(stored, syntax="RLELossless"), plain
    yield "implicit types", dicom(stored, syntax="ImplicitVRLittleEndian"), plain
    yield "an overlay in the high bits", dicom(stored | np.uint16(0x8000) * (grey() > 128)), plain
    nested = _sequence(
        PixelValueTransformationSequence=_sequence(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    )
    yield (
        "rescaled in functional groups",
        dicom(stored, RescaleSlope=None, RescaleIntercept=None, SharedFunctionalGroupsSequence=nested),
        plain,
    )
    table = np.arange(4096).astype(np.int32)[::-1].astype(np.uint16)
    lut = _sequence(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US", LUTData=table.tobytes())
    yield (
        "a modality table",
        dicom(4095 - stored, RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=lut),
        None,
    )
    yield "CT without rescale", dicom(stored, RescaleSlope=None, RescaleIntercept=None), None
    yield (
        "two frames",
        dicom(
            np.stack([stored, stored]).reshape(2, *stored.shape),
            NumberOfFrames=2,
            Rows=stored.shape[0],
            Columns=stored.shape[1],
        ),
        None,
    )
    colour: dict[str, Any] = {
        "PhotometricInterpretation": "RGB",
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 0,
        "Modality": "US",
        "RescaleSlope": None,
        "RescaleIntercept": None,
    }
    yield "colours", dicom(photograph(), **colour), None
    corner = np.zeros(stored.shape, bool)
    corner[:8, :8] = True
    padded = np.where(corner, np.uint16(0), stored)
    black = np.where(corner, stored.min(), stored).astype(np.uint16)
    yield (
        "padding",
        dicom(padded, PixelPaddingValue=0),
        dicom(np.where(corner, np.uint16(24), stored).astype(np.uint16)),
    )
    white = np.where(corner, np.uint16(0), 4095 - stored)
    yield "padding, MONOCHROME1", dicom(white, PixelPaddingValue=0, **negative), dicom(black, **film)
    mr: dict[str, Any] = {"Modality": "MR", "RescaleSlope": None, "RescaleIntercept": None}
    yield (
        "padding of MR",
        dicom(np.where(corner, np.uint16(4095), stored), PixelPaddingValue=4095, **mr),
        dicom(black, **mr),
    )
    ramp = np.where(corner, np.arange(8 * 48 * 5).reshape(40, 48) % 50 + 4000, stored).astype(np.uint16)
    yield (
        "a range of padding of MR",
        dicom(ramp, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095, **mr),
        dicom(black, **mr),
    )
