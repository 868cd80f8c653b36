"""Masks that a user gives: which pixels of an image are known, and what makes one doubtful."""

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from nid_dist.data.depth import unit_values
from nid_dist.data.reading import read_with_alpha
from nid_dist.errors import DoubtfulMeaning, UserError, doubt
from nid_dist.tasks.images.fit import ImageArray

MaskUnknown = Literal["white", "black", "alpha"]

_HALF = 0.5
_BETWEEN, _GREYS = (0.1, 0.9), 0.1  # a mask's share of pixels that are neither black nor white, at most
_STROKES = 0.05  # share of the pixels of a mask with alpha that are opaque and black, at most
_MOST = 0.95  # share of unknown pixels that is usual
_ONE_COLOUR, _MOSTLY = 0.999, 0.9  # share of pixels that have the commonest colour of all
_LOOKED_AT = 2**18  # pixels
_BY_CHANCE = 12  # pixels of the border that would be known if which are had nothing to do with it


def read_mask(path: str | Path, unknown: MaskUnknown | None = None) -> Bool[np.ndarray, "h w"]:
    """Read a mask, an image: which pixels are known.

    Args:
        path: of any format that images are read of.
        unknown: what stands for unknown pixels; None: what is transparent, or, in an opaque mask, black.

    Raises:
        UserError: when it cannot be read, or is opaque although what is transparent is asked for.

    Warns:
        DoubtfulMeaning: when it is hardly a mask, or could be meant in another way.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtfulMeaning)  # of its colours, of which nothing but two are looked for
        image, alpha = read_with_alpha(path, "grey")
    level = image[..., 0]
    if unknown == "alpha" and alpha is None:
        raise UserError(
            str(path), found="no transparent pixel", expected="some, which are unknown", hint="name another colour"
        )
    if alpha is None:
        return known_levels(level, str(path), unknown)
    if unknown in (None, "alpha"):
        strokes = float(((alpha > _HALF) & (level <= _HALF)).mean())
        if unknown is None and strokes > _STROKES:
            doubt(
                str(path),
                found=f"a mask with transparent pixels, and {strokes:.0%} of black ones",
                taken_as="unknown where it is transparent, whatever its colours",
                hint="say what stands for unknown pixels if it is black or white (--mask-unknown)",
            )
        opaque: np.ndarray = alpha > _HALF
        return opaque
    # What is painted on nothing is unknown.
    return known_levels(level * alpha + (1 - alpha) * (unknown == "black"), str(path), unknown)


def read_opaque(
    path: str | Path, colour: Literal["rgb", "grey"], bits: int | None = None
) -> tuple[ImageArray, Bool[np.ndarray, "H W"] | None]:
    """Read an image over nothing, as `read_image` does otherwise: its colours, and where they are seen.

    None: everywhere, or nowhere less than by half.
    """
    image, alpha = read_with_alpha(path, colour, bits)
    if alpha is None or (alpha > _HALF).all():
        return image, None
    return image, alpha > _HALF


def known_together(known: Bool[np.ndarray, "h w"], opaque: Bool[np.ndarray, "H W"] | None) -> Bool[np.ndarray, "h w"]:
    """What a mask and the image's own alpha leave; a mask of another size stays as it is, to be refused."""
    return known if opaque is None or known.shape != opaque.shape else known & opaque


def mask_array(mask: Any, unknown: MaskUnknown | None = None) -> Bool[np.ndarray, "h w"]:
    """Which pixels are known by an array [H, W] of bool, 0 and 1, uint8, uint16 or floats in [0, 1].

    Raises:
        UserError: for anything else.

    Warns:
        DoubtfulMeaning: as of `read_mask`.
    """
    if isinstance(mask, torch.Tensor):
        mask = mask.detach().cpu().numpy()
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or not mask.size:
        raise UserError(
            "the mask",
            found=f"an array of shape {mask.shape}" if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}",
            expected="an array [H, W], an image that is white where pixels are known, or 'unknown'",
            hint="make one of the image's size",
        )
    if unknown == "alpha":
        raise UserError("the mask", found="an array [H, W]", expected="one with alpha", hint="name another colour")
    if mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all():
        mask = mask.astype(bool)
    if mask.dtype == np.bool_:
        known: np.ndarray = ~mask if unknown == "white" else mask
        return known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtfulMeaning)
        level = unit_values("the mask", mask[..., None])[..., 0]
    return known_levels(level, "the mask", unknown)


def known_levels(
    level: Float[np.ndarray, "h w"], where: str, unknown: MaskUnknown | None = None
) -> Bool[np.ndarray, "h w"]:
    """Which pixels are known by how bright they are in a mask; of two brightnesses the brighter one counts as white.

    Warns:
        DoubtfulMeaning: when there are many greys, or no white.
    """
    darkest, brightest = float(level.min()), float(level.max())
    white = level > _HALF
    if darkest < brightest <= _HALF and ((level == darkest) | (level == brightest)).all():
        doubt(
            where,
            found=f"a mask of two brightnesses, {darkest:.3g} and {brightest:.3g} of white",
            taken_as="black and white",
            hint="scale it",
        )
        white = level == brightest
    greys = float(((level > _BETWEEN[0]) & (level < _BETWEEN[1])).mean())
    if greys > _GREYS and brightest > _HALF:
        doubt(
            where,
            found=f"a mask of which {greys:.0%} is neither black nor white",
            taken_as="known where it is brighter than grey",
            hint="check that it is the mask, not the image",
        )
    return ~white if unknown == "white" else white


def require_mask(known: Bool[np.ndarray, "h w"], height: int, width: int) -> None:
    """Refuse a mask that cannot be that of an image of a height and width.

    Raises:
        UserError: when it has another size, or no pixel is known.
    """
    if known.shape != (height, width):
        raise UserError(
            "the mask",
            found=f"{known.shape[0]}x{known.shape[1]} pixels",
            expected=f"{height}x{width}, as the image has",
            hint="make one of the image's size",
        )
    if not known.any():
        raise UserError(
            "the mask",
            found="no known pixel",
            expected="some",
            hint="check its colours: white is known, black is not (the other way round: --mask-unknown white)",
        )


def doubt_mask(known: Bool[np.ndarray, "H W"], image: ImageArray) -> None:
    """Warn of a mask that is hardly meant so; one of the image's size that knows something of it.

    Warns:
        DoubtfulMeaning: when nothing is unknown, or nearly everything, or it looks as if it were inverted.
    """
    unknown = float(1 - known.mean())
    if known.all():
        doubt(
            "the mask",
            found="no pixel unknown",
            taken_as="an image of which nothing is to be filled",
            hint="check its colours: white is known, black is not, transparent is not",
        )
        return
    found = _inverted(known, image, unknown)
    if found is None and unknown > _MOST:
        found = "hardly any pixel known"
    if found:
        doubt(
            "the mask",
            found=found,
            taken_as=f"{unknown:.1%} of the pixels unknown",
            hint="invert it if it is meant the other way round (--mask-unknown white)",
        )


def _inverted(known: Bool[np.ndarray, "H W"], image: ImageArray, unknown: float) -> str | None:
    """What speaks for a mask that is meant the other way round; None: nothing.

    What is to be filled is often blank, and mostly lies inside.
    """
    step = max(1, int(np.sqrt(known.size / _LOOKED_AT)))
    some, pixels = known[::step, ::step], image[::step, ::step]
    if some.any() and not some.all():
        flat, other = _commonest(pixels[some]), _commonest(pixels[~some])
        if other < _HALF and flat > (_MOSTLY if unknown > _HALF else _ONE_COLOUR):
            return f"{flat:.0%} of the known pixels of one colour, and the unknown ones of many"
    border = np.concatenate([known[0], known[-1], known[1:-1, 0], known[1:-1, -1]])
    if unknown > _HALF and not border.any() and (1 - unknown) * len(border) > _BY_CHANCE:
        return "no pixel of the image's border known"
    return None


def _commonest(pixels: Float[np.ndarray, "N d"]) -> float:
    """Share of the commonest colour, in 8 bits."""
    shades = np.round(np.nan_to_num(pixels) * 255).astype(np.int64) @ (256 ** np.arange(pixels.shape[1]))
    counts = np.unique(shades, return_counts=True)[1]
    return float(counts.max() / len(shades))
