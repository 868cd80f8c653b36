"""DICOM slices, among them a real one that pydicom brings."""

import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from nid_dist.data.reading import image_size, read_image
from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.ct.slices import named_slice

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


def write(
    path: Path, pixels: np.ndarray | None, modality: str = "CT", intercept: int = -1024, **attributes: Any
) -> Path:
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
    for name, value in attributes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
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


def grey(path: Path) -> list[list[float]]:
    """The values, and no word about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(path, "grey")[..., 0].tolist()


def doubtful(path: Path, words: str) -> list[list[float]]:
    with pytest.warns(DoubtfulMeaning, match=words):
        return read_image(path, "grey")[..., 0].tolist()


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    """The lowest value is to be white: 100 of 100..200 is 1."""
    pixels = np.array([[100, 200], [150, 100]])
    path = write(tmp_path / "s.dcm", pixels, "CR", PhotometricInterpretation="MONOCHROME1")
    assert grey(path) == [[1, 0], [0.5, 1]]


def test_a_ct_as_monochrome1_is_doubtful(tmp_path: Path) -> None:
    path = write(tmp_path / "s.dcm", np.array([[12, 512]]), PhotometricInterpretation="MONOCHROME1")
    assert doubtful(path, "a CT in Hounsfield units as MONOCHROME1, taken as a picture in which air is white") == [
        [1, 0.5]
    ]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding", [0, 4095])
def test_padding_is_dark_and_has_no_part_in_the_range(tmp_path: Path, photometric: str, padding: int) -> None:
    """The rest is 100..300; a padding of 0 would have made 0.33 of 100, one of 4095 0.05 of 300."""
    pixels = np.array([[padding, 100], [200, 300]])
    values = {"PhotometricInterpretation": photometric, "PixelPaddingValue": padding}
    found = grey(write(tmp_path / "s.dcm", pixels, "MR", **values))
    assert found == ([[0, 0], [0.5, 1]] if photometric == "MONOCHROME2" else [[0, 1], [0.5, 0]])


def test_a_range_of_padding(tmp_path: Path) -> None:
    """Below 10, from either end."""
    pixels = np.array([[3, 9, 10, 12, 14]])
    for value, limit in ((0, 9), (9, 0)):
        path = write(tmp_path / "s.dcm", pixels, "MR", PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
        assert grey(path) == [[0, 0, 0, 0.5, 1]]


def test_padding_above_the_rest_of_a_ct_is_air(tmp_path: Path) -> None:
    path = write(tmp_path / "s.dcm", np.array([[4000, 512]]), PixelPaddingValue=4000)
    assert grey(path) == [[0, 0.5]]


def test_padding_written_without_its_sign(tmp_path: Path) -> None:
    """63536 is what -2000 is called where the header's number has no sign, but the pixels have: -2000 in 16 bits."""
    pixels = np.array([[-2000, -50], [0, 50]]).astype("<i2").view("<u2")
    path = write(tmp_path / "s.dcm", pixels, "MR", PixelRepresentation=1)
    data = pydicom.dcmread(path)
    data.add_new("PixelPaddingValue", "US", 63536)
    data.save_as(path)
    assert grey(path) == [[0, 0], [0.5, 1]]


def test_nothing_but_padding(tmp_path: Path) -> None:
    path = write(tmp_path / "s.dcm", np.full((2, 2), 7), PixelPaddingValue=7)
    with pytest.raises(UserError, match="s.dcm: found nothing but padding"):
        read_image(path, "grey")


def test_signs(tmp_path: Path) -> None:
    """-24 and 24 in two's complement: 2 * -24 + 0 = -48 HU is (1000 - 48) / 2000."""
    pixels = np.array([[-24, 24]]).astype("<i2").view("<u2")
    path = write(tmp_path / "s.dcm", pixels, intercept=0, PixelRepresentation=1)
    np.testing.assert_allclose(grey(path), [[0.476, 0.524]], atol=1e-6)


@pytest.mark.parametrize("sign", [0, 1])
def test_bits_that_are_not_stored_mean_nothing(tmp_path: Path, sign: int) -> None:
    """12 of 16 bits are stored, and an overlay of old lies in the others."""
    values = np.array([[100, 200, 300]]) - 200 * sign
    pixels = (values & 0x0FFF) | np.array([[0xF000, 0x1000, 0x0000]])
    path = write(tmp_path / "s.dcm", pixels, "MR", BitsStored=12, HighBit=11, PixelRepresentation=sign)
    assert grey(path) == [[0, 0.5, 1]]


def transformation(slope: float, intercept: float) -> Dataset:
    """A group of a frame, with its rescale."""
    values, group = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, intercept, "HU"
    group.PixelValueTransformationSequence = [values]
    return group


@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_rescale_in_functional_groups(tmp_path: Path, groups: str) -> None:
    """0.5 * 1000 - 500 = 0 HU, water."""
    own = {"RescaleSlope": None, "RescaleIntercept": None, "NumberOfFrames": 1}
    path = write(tmp_path / "s.dcm", np.array([[0, 1000, 2000]]), **own, **{groups: [transformation(0.5, -500)]})
    assert grey(path) == [[0.25, 0.5, 0.75]]


@pytest.mark.parametrize("first", [10, -10])
def test_a_modality_table(tmp_path: Path, first: int) -> None:
    """Entry by entry from `first` on, its ends continued; of 12 bits."""
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [3, first, 12])
    table.add_new("LUTData", "US", [0, 1000, 4000])
    table.ModalityLUTType = "OD"
    pixels = (np.array([[0, 1, 2, 3, -5]]) + first).astype("<i2").view("<u2")
    own = {"RescaleSlope": None, "RescaleIntercept": None, "PixelRepresentation": 1, "ModalityLUTSequence": [table]}
    assert grey(write(tmp_path / "s.dcm", pixels, "CR", **own)) == [[0, 0.25, 1, 1, 0]]


def test_values_that_are_hardly_hounsfield_units(tmp_path: Path) -> None:
    pixels = np.array([[0, 500, 1000]])
    path = write(tmp_path / "s.dcm", pixels, RescaleSlope=None, RescaleIntercept=None)
    assert doubtful(path, "a CT without RescaleIntercept") == [[0.5, 0.75, 1]]
    path = write(tmp_path / "s.dcm", pixels, RescaleType="US")
    assert doubtful(path, "a CT in units US, taken as values of a range of their own") == [[0, 0.5, 1]]


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write(tmp_path / "s.dcm", np.array([[1, 2]]), "MR", PixelSpacing=[1, 2])
    doubtful(path, r"PixelSpacing 1\\2, taken as square pixels")
    assert grey(write(tmp_path / "s.dcm", np.array([[1, 2]]), "MR", PixelSpacing=[0.5, 0.5])) == [[0, 1]]


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("meta", [True, False])
def test_without_a_preamble(tmp_path: Path, implicit: bool, meta: bool) -> None:
    whole = SAMPLES / ("MR_small_implicit.dcm" if implicit else "MR_small.dcm")
    content, path = whole.read_bytes()[132:], tmp_path / "s.dcm"
    if not meta:
        length = int.from_bytes(content[8:12], "little")  # of the group of the meta information that follows
        content = content[12 + length :]
    path.write_bytes(content)
    assert image_size(path) == (64, 64)
    np.testing.assert_array_equal(read_image(path, "grey"), read_image(whole, "grey"))


def test_a_missing_decoder_is_named() -> None:
    with pytest.raises(UserError, match="JPEG-LS .*no decoder.* pip install 'pylibjpeg.*' 'pylibjpeg-libjpeg"):
        read_image(SAMPLES / "MR_small_jpeg_ls_lossless.dcm", "grey")
    with pytest.raises(UserError, match="JPEG Extended .*no decoder"):  # Pillow's has 8 bits
        read_image(SAMPLES / "JPGExtended.dcm", "grey")


def test_no_word_about_real_slices() -> None:
    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "examples_overlay.dcm"):
        grey(SAMPLES / name)


@pytest.mark.parametrize(
    ("pixels", "attributes", "found"),
    [
        (None, {}, "without an image"),
        (np.zeros((2, 3, 4)), {}, "2 frames, pixels of shape (2, 3, 4)"),
        (np.zeros((3, 4)), {"PhotometricInterpretation": "PALETTE COLOR"}, "PhotometricInterpretation PALETTE COLOR"),
        (np.zeros((3, 4)), {"PhotometricInterpretation": None}, "PhotometricInterpretation None"),
        (np.zeros((3, 4)), {"BitsStored": 12}, "HighBit 15 with BitsStored 12"),
        (np.zeros((3, 4)), {"RescaleSlope": 0}, "RescaleSlope 0"),
    ],
)
def test_refuses(pixels: np.ndarray | None, attributes: dict[str, Any], found: str, tmp_path: Path) -> None:
    path = write(tmp_path / "slice.dcm", pixels, **attributes)
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


def test_a_damaged_length_takes_no_memory(tmp_path: Path) -> None:
    """An element (long, explicit) that claims four gigabytes."""
    path = write(tmp_path / "slice.dcm", np.ones((8, 8)))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"OW\0\0") + 4
    content[place : place + 4] = b"\xf0\xff\xff\xff"
    path.write_bytes(content)
    tracemalloc.start()
    assert read_image(path, "grey").shape == (8, 8, 1)  # what there is, is enough
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
