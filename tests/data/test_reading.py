import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nid_dist.data.reading import image_size, read_image, read_with_alpha, to_colour
from nid_dist.errors import DoubtfulMeaning, UserError

RNG = np.random.default_rng(2)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
SMOOTH = np.stack([*np.meshgrid(np.arange(40) * 6, np.arange(48) * 5), np.full((48, 40), 90)], -1).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff", "a.npy", "A.PNG", "misnamed.jpg"])
def test_lossless_eight_bits(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, COLOUR)
    else:
        kind = {"webp": "WEBP", "tiff": "TIFF"}.get(name.split(".")[1], "PNG")
        Image.fromarray(COLOUR).save(path, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    read = read_image(path, "rgb")
    assert read.dtype == np.float32 and read.flags.c_contiguous
    np.testing.assert_allclose(read, COLOUR / 255, atol=1e-7)
    assert image_size(path) == (6, 5)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(SMOOTH).save(tmp_path / f"s.{suffix}", quality=95)
    read = read_image(tmp_path / f"s.{suffix}", "rgb")
    assert np.abs(read - SMOOTH / 255).mean() < 0.01


def test_cmyk_jpeg(tmp_path: Path) -> None:
    # Ink (0, 255, 255, 0) is red: R = 255 - C, G = 255 - M, B = 255 - Y without black.
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    read = read_image(tmp_path / "c.jpg", "rgb")
    np.testing.assert_allclose(read.mean(axis=(0, 1)), [1, 0, 0], atol=0.02)


def test_sixteen_bits_are_scaled_by_65535(tmp_path: Path, write_png16: Callable[..., None]) -> None:
    samples = np.array([[[0, 1, 65535], [32768, 257, 258]]], np.uint16)
    expected = samples.astype(np.float64) / 65535
    write_png16(tmp_path / "d.png", samples)
    tifffile.imwrite(tmp_path / "d.tif", samples, photometric="rgb")
    np.save(tmp_path / "d.npy", samples)
    for name in ("d.png", "d.tif", "d.npy"):
        np.testing.assert_allclose(read_image(tmp_path / name, "rgb"), expected, rtol=1e-6)


def test_sixteen_bit_grey_png_written_by_pillow(tmp_path: Path) -> None:
    samples = RNG.integers(0, 65536, (4, 3), dtype=np.uint16)
    Image.fromarray(samples).save(tmp_path / "g.png")
    np.testing.assert_allclose(read_image(tmp_path / "g.png", "grey")[..., 0], samples / 65535, rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("RGBA", (255, 0, 0, 51), (1.0, 0.8, 0.8)),  # 0.2 red on white
        ("RGBA", (0, 0, 0, 0), (1.0, 1.0, 1.0)),
        ("LA", (0, 102), (0.6, 0.6, 0.6)),
        ("1", 1, (1.0, 1.0, 1.0)),
        ("L", 51, (0.2, 0.2, 0.2)),
        ("P", 1, (0.2, 0.4, 0.6)),
    ],
)
def test_modes_become_rgb_over_white(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], rgb: tuple[float, ...]
) -> None:
    image = Image.new(mode, (1, 1), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 51, 102, 153])
    image.save(tmp_path / "one_pixel.png")
    np.testing.assert_allclose(read_image(tmp_path / "one_pixel.png", "rgb"), [[rgb]], atol=1e-6)
    luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    np.testing.assert_allclose(read_image(tmp_path / "one_pixel.png", "grey"), [[[luma]]], atol=1e-6)


def test_float_tiff(tmp_path: Path) -> None:
    samples = RNG.random((4, 5, 3)).astype(np.float32)
    tifffile.imwrite(tmp_path / "f.tif", samples, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif", "rgb"), samples)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "bool"])
def test_npy_types(tmp_path: Path, dtype: str) -> None:
    samples = np.array([[0, 1], [1, 0]]).astype(dtype)
    np.save(tmp_path / "n.npy", samples)
    np.testing.assert_array_equal(read_image(tmp_path / "n.npy", "grey")[..., 0], [[0, 1], [1, 0]])


def test_rounding_beyond_one_is_clipped(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.array([[1.000001, -1e-6]]))
    assert read_image(tmp_path / "r.npy", "grey").ravel().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0.5, np.nan]]), "1 samples that are NaN or infinite.*nan_to_num"),
        (np.array([[np.inf, -np.inf]]), "2 samples that are NaN or infinite"),
        (np.array([[0.0, 255.0]]), r"float samples from 0 to 255, .*scale them to \[0, 1\]"),
        (np.array([[-0.5, 0.5]], np.float32), "float samples from -0.5 to 0.5"),
        (np.zeros((2, 2), np.int64), "samples of type int64"),
        (np.zeros((2, 2), complex), "samples of type complex128"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\).*channels last"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"shape \(1, 2, 2, 3\)"),
        (np.zeros((0, 3), np.uint8), "n.npy"),
        (np.array([[{}]], dtype=object), "n.npy: found a file that cannot be read"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "n.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        read_image(tmp_path / "n.npy", "rgb")
    assert caught.value.where == str(tmp_path / "n.npy")


def test_nan_in_a_float_tiff_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "n.tif", np.array([[np.nan, 1]], np.float32), photometric="minisblack")
    with pytest.raises(UserError, match="n.tif: found 1 samples that are NaN"):
        read_image(tmp_path / "n.tif", "grey")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "LZW", "NPY", "FLOAT"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused_by_name(tmp_path: Path, kind: str, share: float) -> None:
    noise = RNG.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    if kind == "NPY":
        np.save(buffer, noise)
    elif kind == "FLOAT":
        tifffile.imwrite(
            buffer, (noise / 255).astype(np.float32), photometric="rgb", compression="zlib", rowsperstrip=4
        )
    elif kind == "LZW":
        Image.fromarray(noise).save(buffer, format="TIFF", compression="tiff_lzw")
    else:
        Image.fromarray(noise).save(buffer, format=kind)
    whole = buffer.getvalue()
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="cut") as caught:
        read_image(path, "rgb")
    assert caught.value.where == str(path) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"not an image at all, just a text\n" * 20, "a file that is no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a file that is no image"),
        (b"GIF89a" + bytes(40), "a file that is no image that is read: GIF"),
        (b"BM" + bytes(40), "a file that is no image that is read: BMP"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "a file that is no image that is read: HEIC"),
        (b"\x93NUMPY\x01\x00", "a file that cannot be read"),
        (b"II*\x00\xff\xff\xff\xff", "a file that cannot be read"),
    ],
)
def test_files_that_are_no_images_are_refused(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "wrong.png"
    path.write_bytes(content)
    for read in (lambda: read_image(path, "rgb"), lambda: image_size(path)):
        with pytest.raises(UserError) as caught:
            read()
        assert caught.value.where == str(path)
        assert caught.value.found.startswith(found)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone.png: found no such file"):
        read_image(tmp_path / "gone.png", "rgb")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="folder.png: found something that is no file"):
        read_image(tmp_path / "folder.png", "rgb")


def test_decompression_bombs_are_refused(tmp_path: Path, png_chunk: Callable[[bytes, bytes], bytes]) -> None:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b""))
    with pytest.raises(UserError, match="bomb.png: found far too many pixels"):
        read_image(tmp_path / "bomb.png", "rgb")


def test_inputs_are_not_changed(tmp_path: Path) -> None:
    np.save(tmp_path / "n.npy", COLOUR)
    before = (tmp_path / "n.npy").read_bytes()
    read_image(tmp_path / "n.npy", "rgb")[:] = 0
    assert (tmp_path / "n.npy").read_bytes() == before


def test_grey_is_repeated_and_luma_is_itu_601() -> None:
    grey = np.array([[[0.25]]], np.float32)
    assert to_colour(grey, "rgb").tolist() == [[[0.25, 0.25, 0.25]]]
    rgb = np.array([[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]], np.float32)
    np.testing.assert_allclose(to_colour(rgb, "grey")[0, :, 0], [0.299, 0.587, 0.114], rtol=1e-6)


def quiet(path: Path, bits: int | None = None) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(path, "grey", bits)[..., 0]


@pytest.mark.parametrize("kind", ["png", "tif", "npy"])
@pytest.mark.parametrize(("brightest", "bits"), [(1023, 10), (4095, 12), (16383, 14), (200, 8)])
def test_sixteen_bits_of_which_few_are_used(tmp_path: Path, kind: str, brightest: int, bits: int) -> None:
    path, samples = tmp_path / f"s.{kind}", np.array([[0, brightest // 2, brightest]], np.uint16)
    if kind == "png":
        Image.fromarray(samples).save(path)
    elif kind == "tif":
        tifffile.imwrite(path, samples, photometric="minisblack")
    else:
        np.save(path, samples)
    with pytest.warns(DoubtfulMeaning, match=rf"s.{kind}: found 16-bit samples up to {brightest}, as of {bits} bits"):
        dark = read_image(path, "grey")[..., 0]
    np.testing.assert_allclose(dark, samples / 65535, rtol=1e-6)
    np.testing.assert_allclose(quiet(path, bits), samples / (2**bits - 1), rtol=1e-6)
    if bits > 8:
        with pytest.raises(UserError, match=f"samples up to {brightest}, expected at most 255, as 8 bits"):
            read_image(path, "grey", 8)


def test_bits_of_sixteen_that_are_used_raise_no_doubt(tmp_path: Path, write_png16: Callable[..., None]) -> None:
    np.save(tmp_path / "n.npy", np.array([[0, 20000]], np.uint16))
    quiet(tmp_path / "n.npy")
    np.save(tmp_path / "n.npy", np.zeros((2, 2), np.uint16))
    quiet(tmp_path / "n.npy")
    # Alpha is no brightness, and keeps its own scale.
    write_png16(tmp_path / "a.png", np.array([[[4095, 65535]]], np.uint16))
    with pytest.warns(DoubtfulMeaning, match="up to 4095"):
        read_image(tmp_path / "a.png", "grey")
    assert quiet(tmp_path / "a.png", 12).tolist() == [[1]]


def test_significant_bits_of_ome_are_applied(tmp_path: Path) -> None:
    samples = np.array([[0, 1000, 4095]], np.uint16)
    path = tmp_path / "o.ome.tif"
    tifffile.imwrite(path, samples, photometric="minisblack", ome=True, metadata={"SignificantBits": 12})
    np.testing.assert_allclose(quiet(path), samples / 4095, rtol=1e-6)


@pytest.mark.parametrize("samples", [np.array([[0, 1]], np.uint8), np.array([[0, 1 / 255]], np.float32)])
def test_what_is_almost_black_is_doubtful(tmp_path: Path, samples: np.ndarray) -> None:
    np.save(tmp_path / "n.npy", samples)
    with pytest.warns(DoubtfulMeaning, match="taken as almost black"):
        read_image(tmp_path / "n.npy", "grey")


def test_a_last_channel_that_is_no_alpha_is_doubtful(tmp_path: Path) -> None:
    samples = RNG.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    np.save(tmp_path / "n.npy", samples)
    with pytest.warns(DoubtfulMeaning, match="taken as alpha, over white"):
        read_image(tmp_path / "n.npy", "rgb")
    samples[..., 3] = 255
    np.save(tmp_path / "n.npy", samples)
    np.testing.assert_allclose(quiet(tmp_path / "n.npy"), read_image(tmp_path / "n.npy", "rgb") @ [0.299, 0.587, 0.114])


def test_channels_first_are_refused_with_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "n.npy", np.zeros((3, 8, 9), np.uint8))
    with pytest.raises(UserError, match=r"shape \(3, 8, 9\).*numpy.moveaxis"):
        read_image(tmp_path / "n.npy", "rgb")


def test_colours_and_alpha(tmp_path: Path) -> None:
    """Red that is half seen is red, and its alpha is 0.5; what is not seen at all is white."""
    Image.fromarray(np.array([[[255, 0, 0, 128], [9, 9, 9, 0]]], np.uint8)).save(tmp_path / "a.png")
    image, alpha = read_with_alpha(tmp_path / "a.png", "rgb")
    assert image.tolist() == [[[1, 0, 0], [1, 1, 1]]] and alpha is not None
    np.testing.assert_allclose(alpha, [[128 / 255, 0]], rtol=1e-6)
    Image.fromarray(COLOUR).convert("RGBA").save(tmp_path / "opaque.png")
    assert read_with_alpha(tmp_path / "opaque.png", "grey")[1] is None


def test_arrays_of_whole_numbers_do_not_saturate() -> None:
    """As the hint on the channels of an array says."""
    np.testing.assert_allclose(to_colour(COLOUR, "rgb"), COLOUR / 255, atol=1e-7)
    np.testing.assert_allclose(to_colour(COLOUR.astype(np.uint16) * 257, "rgb"), COLOUR / 255, atol=1e-7)
    np.testing.assert_allclose(to_colour(COLOUR / 255, "rgb"), COLOUR / 255, atol=1e-7)
    with pytest.raises(UserError, match="float samples from 0 to 255"):
        to_colour(np.array([[[0.0, 0.0, 255.0]]], np.float32), "rgb")
    with pytest.raises(UserError, match=r"shape \(2, 2, 5\)"):
        to_colour(np.zeros((2, 2, 5), np.uint8), "rgb")
