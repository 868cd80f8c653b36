"""Fits of images that a user gives: paths or arrays, whole or with pixels that are unknown."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from nid_dist.coding.method import Method
from nid_dist.coding.solvers import LastPrepared
from nid_dist.data.depth import unit_values
from nid_dist.data.reading import read_image, require_channels_last
from nid_dist.errors import UserError
from nid_dist.fitting import wrong_kind
from nid_dist.model import Model
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray, ImageFit, fit_image, require_images
from nid_dist.tasks.images.inpainting import inpaint
from nid_dist.tasks.images.masks import (
    MaskUnknown,
    doubt_mask,
    known_together,
    mask_array,
    read_mask,
    read_opaque,
    require_mask,
)
from nid_dist.tasks.images.super_resolution import super_resolve

_EXPECTED = "an image [H, W, d] or its file, as this dictionary is of images"


def fit(
    model: Model,
    signals: Sequence[Any],
    methods: Sequence[str | Method] | None,
    *,
    stride: int | None = None,
    mask: Any = None,
    mask_unknown: MaskUnknown | None = None,
    scale: float | int | None = None,
    detail: int | None = None,
) -> Iterator[dict[str, ImageFit]]:
    """Fit images, one after the other: the fits of each by the methods' labels.

    Args:
        signals: each the path of an image, or an array [H, W, d] or [H, W] of bool, uint8, uint16, or floats in [0, 1].
        methods: None: `omp`; with a mask, `map` where there is a prior, otherwise `irls`; with a scale, `map`.
        stride: step between patches; None: no overlap. Overlapping patches are blended.
        mask: the pixels to believe, [H, W], or an image that is white there: the others are filled in from a dictionary
            of patches, by `map`, or by codes that know the believed pixels alone, `irls`. "unknown": they are found.
            What is transparent in an image's file is not known in any case.
        mask_unknown: what stands for unknown pixels in a mask: "white", "black" or "alpha", what is transparent; None:
            this, or black in an opaque one.
        scale: above 1: given pixels are means over their areas, and f is fitted with so many times the resolution.
        detail: splines of compact support, at most so many, beside the learned experts of a whole image.

    Raises:
        UserError: for anything else than an image or its mask, or a method that does not go with it.
    """
    require_images(model)
    if scale is not None:
        asked = [Method.of(method) for method in methods or ["map"]]
        others = [repr(method.name) for method in asked if method.name != "map"]
        others += [
            name for name, option in (("mask", mask), ("stride", stride), ("detail", detail)) if option is not None
        ]
        if others:
            expected = "map alone, as only the prior knows more than the pixels"
            raise UserError("what goes with scale", found=", ".join(others), expected=expected, hint="leave it out")
        for signal in signals:
            image = _image(signal, model)
            yield {method.label: super_resolve(model, image, float(scale), noise=method.noise) for method in asked}
        return
    if mask is None:
        chosen, prepared = [Method.of(method) for method in methods or ["omp"]], LastPrepared(model.dictionary)
        for signal in signals:
            yield fit_image(model, _image(signal, model), chosen, stride, prepared, detail=detail)
        return
    if detail is not None:
        raise UserError(
            "detail", found=f"{detail} with a mask", expected="none, as patches are filled", hint="leave it out"
        )
    if stride is not None:
        raise UserError(
            "stride", found=f"{stride} with a mask", expected="none, as patches overlap", hint="leave it out"
        )
    chosen = [Method.of(method) for method in methods or ["map" if model.prior is not None else "irls"]]
    for method in chosen:
        if method.name not in ("map", "irls"):
            expected = "map or irls, which can leave pixels out"
            raise UserError("the method", found=repr(method.name), expected=expected, hint="choose one of these")
    for signal in signals:
        known = None if isinstance(mask, str) and mask == "unknown" else _known(mask, mask_unknown)
        if isinstance(signal, str | Path):
            section = model.config.signals_of(ImagesSection)
            image, opaque = read_opaque(signal, section.colour, section.bits)
            known = opaque if known is None else known_together(known, opaque)
        else:
            image = _image(signal, model, known)
        if known is not None:
            require_mask(known, *image.shape[:2])
            doubt_mask(known, image)
        yield {
            method.label: inpaint(model, image, known, noise=method.noise, prior=method.name == "map")
            for method in chosen
        }


def _known(mask: Any, unknown: MaskUnknown | None) -> Bool[np.ndarray, "h w"]:
    return read_mask(mask, unknown) if isinstance(mask, str | Path) else mask_array(mask, unknown)


def _image(signal: Any, model: Model, known: Bool[np.ndarray, "h w"] | None = None) -> ImageArray:
    """The pixels of what was given; unknown ones need not be numbers."""
    section = model.config.signals_of(ImagesSection)
    if isinstance(signal, str | Path):
        return read_image(signal, section.colour, section.bits)
    if isinstance(signal, torch.Tensor):
        signal = signal.detach().cpu().numpy()
    if not isinstance(signal, np.ndarray) or signal.ndim not in (2, 3) or 0 in signal.shape:
        raise wrong_kind(signal, _EXPECTED)
    if signal.ndim == 2:
        # Three or six numbers a row are those of points, and no picture is so narrow.
        if signal.shape[1] in (3, 6) and len(signal) > signal.shape[1]:
            raise wrong_kind(signal, _EXPECTED, "choose the dictionary of such signals, or give [H, W, 1]")
        signal = signal[..., None]
    require_channels_last("the image", signal)
    if known is not None and known.shape == signal.shape[:2]:
        signal = np.where(known[..., None], signal, np.zeros((), signal.dtype))
    return unit_values("the image", signal, section.bits)
