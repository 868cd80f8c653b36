"""DICOM slices, among them a real one that pydicom brings."""

import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from nid_dist.data.reading import image_size, read_image
from nid_dist.errors import UserError
from nid_dist.tasks.ct.slices import named_slice


def write(path: Path, pixels: np.ndarray | None, modality: str = "CT", intercept: int = -1024) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Modality, data.RescaleSlope, data.RescaleIntercept = modality, 2, intercept
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape[-2:]
        if pixels.ndim == 3:
            data.NumberOfFrames = len(pixels)
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.PixelData = pixels.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_hounsfield_units(tmp_path: Path) -> None:
    """Stored 12 is 2 * 12 - 1024 = -1000: air. 512 is water. 1012 is 1000, where it is cut, as is all above."""
    path = write(tmp_path / "slice.dcm", np.array([[0, 12, 512], [1012, 3000, 762]]))
    assert image_size(path) == (2, 3)
    assert read_image(path, "grey")[..., 0].tolist() == [[0, 0, 0.5], [1, 1, 0.75]]
    assert read_image(path, "rgb").shape == (2, 3, 3)


def test_other_modalities_by_their_own_range(tmp_path: Path) -> None:
    path = write(tmp_path / "slice.dcm", np.array([[100, 200], [150, 100]]), modality="MR")
    assert read_image(path, "grey")[..., 0].tolist() == [[0, 1], [0.5, 0]]


def test_a_real_slice() -> None:
    image = named_slice("CT_small.dcm").load()
    assert image.shape == (128, 128, 1) and image.dtype == np.float32
    # Lung in the upper corner, muscle below, and bone in the middle.
    assert (
        image[:20, :20].mean() < 0.15
        and 0.5 < np.median(image[90:110, 30:90]) < 0.6
        and image[60:80, 40:80].max() > 0.8
    )


@pytest.mark.parametrize(
    ("pixels", "found"), [(None, "without an image"), (np.zeros((2, 3, 4)), "pixels of shape (2, 3, 4)")]
)
def test_refuses(pixels: np.ndarray | None, found: str, tmp_path: Path) -> None:
    path = write(tmp_path / "slice.dcm", pixels)
    with pytest.raises(UserError, match="slice.dcm") as error:
        read_image(path, "grey")
    assert found in str(error.value)


def test_a_cut_file(tmp_path: Path) -> None:
    path = write(tmp_path / "slice.dcm", np.ones((8, 8)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="slice.dcm: found a file that cannot be read"):
        read_image(path, "grey")


def test_without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "slice.dcm", np.ones((8, 8)))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install 'nid_dist\[dicom\]'"):
        read_image(path, "grey")


def test_no_slice_of_that_name() -> None:
    with pytest.raises(UserError, match="slices: nothing.dcm"):
        named_slice("nothing.dcm")
    assert named_slice("retina").load().shape[2] == 1
