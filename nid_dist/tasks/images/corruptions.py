"""Corruptions of an image whose truth is known, for experiments: which pixels stay, and what stands in the others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from PIL import Image, ImageDraw, ImageFont

from nid_dist.errors import UserError

_SALT_AND_PEPPER = 0.15  # share of pixels that are lost
_STRIPES = 8  # over the image
_WORDS = "a signal is a sparse code of implicit functions "


@dataclass(frozen=True)
class Corrupted:
    """An image that was corrupted."""

    image: Float32[np.ndarray, "H W d"]  # in [0, 1]; what stands at pixels that are not known says nothing of the truth
    known: Bool[np.ndarray, "H W"]  # the pixels that are as they were


Spoil = Callable[[Float[np.ndarray, "H W d"], float, np.random.Generator], Corrupted]


def _box(image: np.ndarray, _: float, __: np.random.Generator) -> Corrupted:
    """A grey box over the middle, a third of each side."""
    (top, bottom), (left, right) = (_middle(side, 1 / 3) for side in image.shape[:2])
    known = np.ones(image.shape[:2], bool)
    known[top:bottom, left:right] = False
    return _filled(image, known, 0.5)


def _stripes(image: np.ndarray, _: float, __: np.random.Generator) -> Corrupted:
    """Black stripes across, a third of the rows."""
    thirds = 3 * _STRIPES * np.arange(image.shape[0]) // image.shape[0]
    lost = thirds % 3 == 0
    return _filled(image, np.broadcast_to(~lost[:, None], image.shape[:2]), 0.0)


def _text(image: np.ndarray, _: float, __: np.random.Generator) -> Corrupted:
    """White writing over everything."""
    height, width = image.shape[:2]
    size = max(8, min(height, width) // 9)
    page = Image.new("L", (width, height))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for line in range(height // size + 1):
        shift = 11 * line % len(_WORDS)
        words = (_WORDS[shift:] + _WORDS) * (1 + 3 * width // (size * len(_WORDS)))
        draw.text((2, line * round(1.3 * size)), words, fill=255, font=font)
    return _filled(image, np.asarray(page) < 64, 1.0)


def _salt_and_pepper(image: np.ndarray, _: float, draws: np.random.Generator) -> Corrupted:
    """Single black or white pixels."""
    known = draws.random(image.shape[:2]) >= _SALT_AND_PEPPER
    return _filled(image, known, (draws.random((*image.shape[:2], 1)) < 0.5).astype(np.float32))


def _random(image: np.ndarray, kept: float, draws: np.random.Generator) -> Corrupted:
    """All but a share of the pixels are black, exactly that share."""
    count = image.shape[0] * image.shape[1]
    known = np.zeros(count, bool)
    known[draws.permutation(count)[: max(1, round(kept * count))]] = True
    return _filled(image, known.reshape(image.shape[:2]), 0.0)


def _occluder(image: np.ndarray, _: float, draws: np.random.Generator) -> Corrupted:
    """A checkered patch somewhere, a quarter of each side."""
    height, width = image.shape[:2]
    tall, wide = max(1, height // 4), max(1, width // 4)
    top, left = int(draws.integers(height - tall + 1)), int(draws.integers(width - wide + 1))
    known = np.ones((height, width), bool)
    known[top : top + tall, left : left + wide] = False
    rows, columns = np.mgrid[:height, :width]
    board = ((rows // 4 + columns // 4) % 2)[..., None] * np.linspace(1.0, 0.6, image.shape[2])
    return _filled(image, known, board.astype(np.float32))


CORRUPTIONS: dict[str, Spoil] = {
    "box": _box,
    "stripes": _stripes,
    "text": _text,
    "salt_and_pepper": _salt_and_pepper,
    "random": _random,
    "occluder": _occluder,
}


def corrupt(image: Float[np.ndarray, "H W d"], name: str, *, kept: float = 0.1, seed: int = 0) -> Corrupted:
    """Spoil an image in [0, 1] by one of `CORRUPTIONS`; `kept` is the share of pixels that stay (`random`).

    Raises:
        UserError: for another name, or a share outside (0, 1].
    """
    if name not in CORRUPTIONS:
        raise UserError(
            "the corruption", found=repr(name), expected=f"one of {', '.join(CORRUPTIONS)}", hint="choose one of these"
        )
    if not 0 < kept <= 1:
        raise UserError(
            "the share of pixels kept", found=str(kept), expected="above 0, at most 1", hint="choose such a number"
        )
    return CORRUPTIONS[name](image, kept, np.random.default_rng(seed))


def _filled(image: np.ndarray, known: np.ndarray, filling: float | np.ndarray) -> Corrupted:
    known = np.ascontiguousarray(known)
    return Corrupted(np.where(known[..., None], image, np.float32(filling)).astype(np.float32), known)


def _middle(length: int, share: float) -> tuple[int, int]:
    size = max(1, round(length * share))
    first = (length - size) // 2
    return first, first + size
