"""Pictures: formats, depths, orientations, and files that are something else than they seem."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nid_dist.benchmarks.bad_inputs.encoding import by_pillow, grey, npy, photograph, png, tiff, turned
from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command

# What is kept with loss, or rounded otherwise, is fitted a little otherwise.
_ALIKE = 0.01
_BESIDE: dict[str, Callable[[np.ndarray], bytes]] = {
    "bmp": partial(by_pillow, form="BMP"),
    "gif": partial(by_pillow, form="GIF"),
    "heic": lambda _: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "avif": lambda _: b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
    "jp2": partial(by_pillow, form="JPEG2000"),
    "svg": lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


def readers(dictionary: Path) -> Iterator[Reader]:
    """Of each format, read by `nid-fit`."""
    image = photograph()
    for name, content, meanings in (
        ("png", png(image), _png()),
        ("jpeg", by_pillow(image, "JPEG", quality=97, subsampling=0), _jpeg()),
        ("webp", by_pillow(image, "WEBP", lossless=True), _webp()),
        ("tiff", tiff(image, photometric="rgb"), _tiff()),
        ("npy", npy(image.astype(np.float32) / 255), _npy()),
    ):
        file = f"a.{name}"
        yield Reader(
            name,
            {file: content},
            [file],
            partial(fit_folder, dictionary),
            fitted,
            share=0.5,
            meanings=[Meaning(what, {file: bad}, _twin(truth), _ALIKE) for what, bad, truth in meanings],
        )


def fit_folder(dictionary: Path, given: Path, out: Path) -> int:
    """`nid-fit` of all files in a folder."""
    where = ["--dictionary", str(dictionary), "--input", str(given), "--out", str(out), "--device", "cpu"]
    return command("nid-fit")([*where, "--solver", "omp"])


def fitted(out: Path) -> np.ndarray:
    """The pictures as they were fitted, which are as those that were read."""
    found = [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(out.rglob("omp.png"))]
    return np.concatenate([each.reshape(-1) for each in found]) if len(found) > 1 else found[0]


def folders(dictionary: Path) -> Reader:
    """A folder of pictures in which other things lie, too."""
    image = photograph()
    good = {"a.png": png(image)}
    beside = [Meaning(f"{kind} beside", {**good, f"b.{kind}": make(image)}) for kind, make in _BESIDE.items()]
    same = [
        Meaning("a JPEG called png", {"a.png": by_pillow(image, "JPEG", quality=97, subsampling=0)}, good, _ALIKE),
        Meaning("a PNG called jpg", {"a.jpg": png(image)}, good),
        Meaning("a text called png", {"a.png": b"a note\n"}),
        Meaning("a page called jpg", {"a.jpg": b"<html><body>404 Not Found</body></html>"}),
        Meaning(
            "a pointer of Git LFS", {"a.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"}
        ),
    ]
    run = partial(fit_folder, dictionary)
    return Reader("folder of pictures", good, ["a.png"], run, fitted, share=0.5, meanings=[*beside, *same])


Kinds = Iterator[tuple[str, bytes, bytes | bool]]
"""What is wrong, a file, and a PNG of what it still says: True: the photograph; False: nothing that can be known."""


def _twin(truth: bytes | bool) -> Files | None:
    if isinstance(truth, bool):
        return {"a.png": png(photograph())} if truth else None
    return {"a.png": truth}


def _png() -> Kinds:
    image = photograph()
    for bits in (10, 12, 14):
        yield f"{bits} bits in 16", png((image.astype(np.uint16) << 8) >> (16 - bits)), True
    yield "16 bits", png(image.astype(np.uint16) * 257), True
    yield "12 bits in 16, grey", png((grey().astype(np.uint16) << 8) >> 4), png(grey())
    yield "opaque alpha", png(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])), True
    for orientation, stored in {3: image[::-1, ::-1], 6: np.rot90(image, 1), 8: np.rot90(image, -1)}.items():
        yield f"orientation {orientation}", by_pillow(stored, "PNG", exif=turned(orientation)), True
    frames = [Image.fromarray(image), Image.fromarray(255 - image)]
    yield "an animation", by_pillow(frames[0], "PNG", save_all=True, append_images=frames[1:]), False
    yield "palette", by_pillow(Image.fromarray(image).quantize(256), "PNG"), True


def _jpeg() -> Kinds:
    image = photograph()
    kept = {"quality": 97, "subsampling": 0}
    for orientation, stored in {3: image[::-1, ::-1], 6: np.rot90(image, 1), 8: np.rot90(image, -1)}.items():
        yield f"orientation {orientation}", by_pillow(stored, "JPEG", exif=turned(orientation), **kept), True
    yield "progressive", by_pillow(image, "JPEG", progressive=True, **kept), True
    yield "CMYK", by_pillow(Image.fromarray(image).convert("CMYK"), "JPEG", **kept), True
    whole = by_pillow(image, "JPEG", **kept)
    for share in (0.3, 0.6, 0.9):
        yield f"cut at {share:.0%}", whole[: int(share * len(whole))], False


def _webp() -> Kinds:
    image = photograph()
    frames = [Image.fromarray(image), Image.fromarray(255 - image)]
    yield "an animation", by_pillow(frames[0], "WEBP", save_all=True, append_images=frames[1:]), False
    yield "with loss", by_pillow(image, "WEBP", quality=95), True
    whole = by_pillow(image, "WEBP", lossless=True)
    yield "cut", whole[: len(whole) // 2], False
    yield "orientation 6", by_pillow(np.rot90(image, 1), "WEBP", lossless=True, exif=turned(6)), True


def _tiff() -> Kinds:
    image = photograph()
    for bits in (10, 12, 14):
        yield f"{bits} bits in 16", tiff((image.astype(np.uint16) << 8) >> (16 - bits), photometric="rgb"), True
    deep = image.astype(np.uint16) * 257
    yield "16 bits, big-endian", tiff(deep, photometric="rgb", byteorder=">"), True
    yield "planes", tiff(np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate"), True
    yield "floats", tiff(image.astype(np.float32) / 255, photometric="rgb"), True
    yield "floats from 0 to 255", tiff(image.astype(np.float32), photometric="rgb"), False
    yield "signed", tiff(image.astype(np.int16), photometric="rgb"), False
    yield "32 bits", tiff(image.astype(np.uint32), photometric="rgb"), False
    yield "two pages", tiff(np.stack([image, 255 - image]), photometric="rgb"), False
    yield "white is zero", tiff(255 - grey(), photometric="miniswhite"), png(grey())
    yield "orientation 6", tiff(np.rot90(image, 1), photometric="rgb", extratags=[(274, 3, 1, 6, True)]), True
    yield "orientation 6, 16 bits", tiff(np.rot90(deep, 1), photometric="rgb", extratags=[(274, 3, 1, 6, True)]), True
    alpha = np.full(image.shape[:2], 255, np.uint8)
    yield "opaque alpha", tiff(np.dstack([image, alpha]), photometric="rgb", extrasamples=["unassalpha"]), True
    yield "Deflate", tiff(image, photometric="rgb", compression="zlib", predictor=True), True
    yield "a volume", tiff(np.stack(3 * [deep[..., 0]]), imagej=True), False


def _npy() -> Kinds:
    image = photograph()
    unit = image.astype(np.float32) / 255
    yield "8 bits", npy(image), True
    yield "16 bits", npy(image.astype(np.uint16) * 257), True
    for bits in (10, 12, 14):
        yield f"{bits} bits in 16", npy((image.astype(np.uint16) << 8) >> (16 - bits)), True
    yield "zeros and ones in 8 bits", npy((image > 127).astype(np.uint8)), False
    yield "floats from 0 to 255", npy(image.astype(np.float32)), False
    yield "floats from -1 to 1", npy(2 * unit - 1), False
    yield "integers", npy(image.astype(np.int64)), False
    yield "channels first", npy(np.ascontiguousarray(np.moveaxis(unit, 2, 0))), False
    yield "big-endian", npy(unit.astype(">f4")), True
    yield "columns first", npy(np.asfortranarray(unit)), True
    yield "half precision", npy(unit.astype(np.float16)), True
    yield "a batch", npy(unit[None]), False
    yield "not numbers", npy(np.where(unit > 0.9, np.nan, unit)), False
    yield "complex", npy(unit.astype(np.complex64)), False
    yield "pickled", npy(np.array([unit, None], dtype=object)), False
    yield "other units", npy(unit * 100), False
