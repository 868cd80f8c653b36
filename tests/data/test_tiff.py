from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nid_dist.data.tiff import tiff_samples, tiff_size
from nid_dist.errors import DoubtfulMeaning, UserError

RNG = np.random.default_rng(1)


def random_samples(dtype: str, *shape: int) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return RNG.random(shape).astype(dtype)
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_formats(tmp_path: Path, dtype: str, channels: int, compression: str | None) -> None:
    samples = random_samples(dtype, 6, 5, channels)
    photometric = "minisblack" if channels == 1 else "rgb"
    extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path,
        samples.squeeze(-1) if channels == 1 else samples,
        photometric=photometric,
        compression=compression,
        **extra,
    )
    np.testing.assert_array_equal(tiff_samples(path), samples)
    assert tiff_size(path) == (6, 5)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_planes_and_big_endian(tmp_path: Path, dtype: str) -> None:
    samples = random_samples(dtype, 3, 6, 5)
    tifffile.imwrite(
        tmp_path / "p.tif", samples, photometric="rgb", planarconfig="separate", byteorder=">", bigtiff=True
    )
    np.testing.assert_array_equal(tiff_samples(tmp_path / "p.tif"), samples.transpose(1, 2, 0))


@pytest.mark.parametrize("kind", ["I;16", "F", "L", "RGB"])
def test_lzw_by_the_codec_of_pillow(tmp_path: Path, kind: str) -> None:
    dtype = {"I;16": "uint16", "F": "float32"}.get(kind, "uint8")
    samples = random_samples(dtype, 6, 5, 3 if kind == "RGB" else 1)
    Image.fromarray(samples.squeeze(-1) if kind != "RGB" else samples).save(tmp_path / "l.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(tiff_samples(tmp_path / "l.tif"), samples)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LA", "RGBA"])
def test_modes_of_eight_bits(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 2))
    if mode == "P":
        image.putpalette([0, 0, 0])
    image.save(tmp_path / "m.tif")
    channels = {"1": 1, "P": 3, "CMYK": 3, "LA": 2, "RGBA": 4}[mode]
    assert tiff_samples(tmp_path / "m.tif").shape == (2, 3, channels)


def test_white_is_zero(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "w.tif", np.array([[0, 65535, 1]], np.uint16), photometric="miniswhite")
    assert tiff_samples(tmp_path / "w.tif").ravel().tolist() == [65535, 0, 65534]


def test_associated_alpha_is_undone(tmp_path: Path) -> None:
    samples = np.array([[[0.25, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["assocalpha"])
    expected = [[[0.5, 1.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]]
    np.testing.assert_allclose(tiff_samples(tmp_path / "a.tif"), expected)


def test_unspecified_extra_sample_is_left_out(tmp_path: Path) -> None:
    samples = random_samples("uint16", 2, 3, 4)
    tifffile.imwrite(tmp_path / "u.tif", samples, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(tiff_samples(tmp_path / "u.tif"), samples[..., :3])


def test_orientation_of_sixteen_bits(tmp_path: Path) -> None:
    samples = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    tifffile.imwrite(tmp_path / "o.tif", samples, photometric="minisblack", extratags=[(274, "H", 1, 6, True)])
    assert tiff_samples(tmp_path / "o.tif")[..., 0].tolist() == [[4, 1], [5, 2], [6, 3]]
    assert tiff_size(tmp_path / "o.tif") == (3, 2)


@pytest.mark.parametrize(("orientation", "first"), [(5, 10), (6, 45), (7, 220), (8, 150)])
def test_orientation_of_eight_bits(tmp_path: Path, orientation: int, first: int) -> None:
    image = Image.fromarray(np.array([[10, 80, 150], [45, 115, 220]], np.uint8))
    exif = image.getexif()
    exif[274] = orientation
    image.save(tmp_path / "e.tif", exif=exif)
    read = tiff_samples(tmp_path / "e.tif")
    assert tiff_size(tmp_path / "e.tif") == read.shape[:2] == (3, 2)
    assert read[0, 0, 0] == first


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 8), np.uint16), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            page: Any = file.pages[0]
            page.tags[tag].overwrite(60_000)
    for read in (tiff_samples, tiff_size):
        with pytest.raises(UserError, match="b.tif: found 60000x60000 pixels"):
            read(tmp_path / "b.tif")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((3, 8, 9), np.uint8), photometric="minisblack")
    for read in (tiff_samples, tiff_size):
        with pytest.raises(UserError, match="s.tif: found 3 pages, expected one picture per file"):
            read(tmp_path / "s.tif")


def test_a_hyperstack_of_imagej_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "j.tif", np.zeros((4, 8, 9), np.uint8), imagej=True)
    with pytest.raises(UserError, match="j.tif: found 4 pages"):
        tiff_samples(tmp_path / "j.tif")


def test_a_thumbnail_is_no_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "t.tif") as writer:
        writer.write(np.full((8, 8), 9, np.uint8), photometric="minisblack")
        writer.write(np.zeros((2, 2), np.uint8), photometric="minisblack", subfiletype=1)
    assert tiff_samples(tmp_path / "t.tif").shape == (8, 8, 1)


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int8"])
def test_other_sample_types_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((4, 4), dtype), photometric="minisblack")
    with pytest.raises(UserError, match=f"i.tif: found .*{dtype}, expected uint8, uint16 or float"):
        tiff_samples(tmp_path / "i.tif")


def test_sixteen_bit_cmyk_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 4, 4), np.uint16), photometric="separated")
    with pytest.raises(UserError, match="c.tif: found axes YXS, 4 samples a pixel, SEPARATED"):
        tiff_samples(tmp_path / "c.tif")


def test_a_thumbnail_before_its_picture_is_refused(tmp_path: Path) -> None:
    """As in raw photographs, whose pictures lie behind or below it."""
    small, large = np.zeros((2, 2), np.uint8), np.full((8, 8), 9, np.uint8)
    with tifffile.TiffWriter(tmp_path / "behind.tif") as writer:
        writer.write(small, photometric="minisblack", subfiletype=1)
        writer.write(large, photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "below.tif") as writer:
        writer.write(small, photometric="minisblack", subfiletype=1, subifds=1)
        writer.write(large, photometric="minisblack")
    for name in ("behind.tif", "below.tif"):
        for read in (tiff_samples, tiff_size):
            with pytest.raises(UserError, match=f"{name}: found a raw photograph, or a thumbnail before its picture"):
                read(tmp_path / name)


def test_a_negative_is_refused(tmp_path: Path) -> None:
    tags = [(50706, "B", 4, (1, 4, 0, 0), True)]  # DNGVersion
    tifffile.imwrite(tmp_path / "d.dng", np.zeros((4, 4), np.uint16), photometric="minisblack", extratags=tags)
    with pytest.raises(UserError, match="d.dng: found a raw photograph"):
        tiff_samples(tmp_path / "d.dng")


@pytest.mark.parametrize(("dtype", "nodata", "share"), [("uint16", "65535", "50.0%"), ("uint8", "0", "25.0%")])
def test_pixels_without_data_are_doubtful(tmp_path: Path, dtype: str, nodata: str, share: str) -> None:
    limit = np.iinfo(dtype).max
    samples = np.array([[limit, limit], [0, limit // 2 + 1]], dtype)
    tags = [(42113, "s", 0, nodata, True)]
    tifffile.imwrite(tmp_path / "g.tif", samples, photometric="minisblack", extratags=tags)
    with pytest.warns(
        DoubtfulMeaning, match=rf"g.tif: found {share} of the pixels without data \(GDAL_NODATA {nodata}\)"
    ):
        tiff_samples(tmp_path / "g.tif")
