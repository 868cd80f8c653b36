"""Masks and holes of pictures: which pixels are known."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nid_dist.benchmarks.bad_inputs.encoding import by_pillow, photograph, png, turned
from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command

_HOLE = (slice(12, 22), slice(14, 28))
_ALIKE = 0.004


def reader(dictionary: Path) -> Reader:
    """A mask beside a picture, read by `nid-inpaint`."""
    good = _with(_mask())
    meanings = [Meaning(*each, _ALIKE) for each in _meanings(good)]
    return Reader("mask", good, ["mask.png"], partial(_inpaint, dictionary), _inpainted, share=0.4, meanings=meanings)


def _inpaint(dictionary: Path, given: Path, out: Path) -> int:
    where = ["--dictionary", str(dictionary), "--input", str(given / "image.png"), "--out", str(out), "--device", "cpu"]
    mask = next(given.glob("mask.*"), None)
    return command("nid-inpaint")([*where, "--against", *(["--mask", str(mask)] if mask else [])])


def _inpainted(out: Path) -> np.ndarray:
    return np.asarray(Image.open(out / "inpainted.png"), np.float32) / 255


def _mask() -> np.ndarray:
    """White where pixels are known."""
    mask = np.full(photograph().shape[:2], 255, np.uint8)
    mask[_HOLE] = 0
    return mask


def _with(mask: np.ndarray | bytes, name: str = "mask.png") -> Files:
    spoilt = photograph().copy()
    spoilt[_HOLE] = 255
    return {"image.png": png(spoilt), name: mask if isinstance(mask, bytes) else png(mask)}


def _meanings(good: Files) -> Iterator[tuple[str, Files, Files | None]]:
    mask, image = _mask(), photograph()
    yield "inverted", _with(255 - mask), None
    yield "nothing unknown", _with(np.full_like(mask, 255)), None
    yield "nothing known", _with(np.zeros_like(mask)), None
    few = np.zeros_like(mask)
    few[3, 3] = 255
    yield "one pixel known", _with(few), None
    yield "zeros and ones", _with(mask // 255), good
    yield "16 bits", _with(mask.astype(np.uint16) * 257), good
    yield "one bit", _with(by_pillow(Image.fromarray(mask).convert("1"), "PNG")), good
    yield "colours", _with(np.dstack(3 * [mask])), good
    yield "a hole in alpha", _with(np.dstack([*(3 * [np.full_like(mask, 255)]), mask])), good
    yield "a hole in black and alpha", _with(np.dstack([*(3 * [mask]), mask])), good
    yield "greys and a hole in alpha", _with(np.dstack([np.full_like(mask, 255), mask])), good
    yield "kept with loss", _with(by_pillow(mask, "JPEG", quality=90), "mask.jpg"), good
    yield "of another size", _with(mask[:-2]), None
    yield "lying", _with(by_pillow(np.rot90(mask), "PNG", exif=turned(6))), good
    yield "turned", _with(np.ascontiguousarray(mask.T)), None
    yield "a photograph", _with(image), None
    hole = {"image.png": png(np.dstack([image, mask]))}
    yield "a hole in the picture", hole, good
    yield "a hole in the picture, and a mask of all", {**hole, "mask.png": png(np.full_like(mask, 255))}, good
