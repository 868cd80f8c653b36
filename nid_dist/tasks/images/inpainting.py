"""Inpainting: a corrupted image is refitted by the dictionary, with the corrupted pixels known or to be found.

A patch of which little is known says little about itself. But f is continuous: the same experts, stretched over a patch
that is twice as wide, see four times as many known pixels, and natural images look alike at neighbouring scales. So the
image is fitted at several scales, and what they say of a pixel is blended by how certain their posteriors are there. In
the end every patch is given a code of k coefficients, and the picture is made of these codes alone.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import Solution, reduce_problem, solve_irls, solve_omp
from nid_dist.coding.solvers.irls import robust_weights
from nid_dist.coding.solvers.subspace import Subspace, observe, subspace
from nid_dist.device import Stopwatch
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import save_image
from nid_dist.files import save_array
from nid_dist.measurements.sampling import Sampling
from nid_dist.memory import floats_at_once
from nid_dist.model import Model
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray, ImageFit, require_channels, require_images
from nid_dist.tasks.images.tiling import Tiling

SCALES = (1, 2)
"""How much wider than the dictionary's own patches the fitted ones are."""

_OVERLAP = 4  # patches over a pixel, along each axis
_ROUNDS = 12  # of reweighting, where the corrupted pixels are to be found
_BLOCKS = 8  # rounds of selection of the codes
_REFITS = 2  # codes are sparse where the prior is not: what they say of unknown pixels is better, and fitted once more
_CODED = 1024  # patches given a code at a time on the CPU
_RIDGE = 1e-3  # of codes that are fitted to known pixels alone


@dataclass(frozen=True, eq=False)
class InpaintedFit(ImageFit):
    """A refitted image: overlapping patches, whose codes make the whole picture."""

    trusted: Float32[np.ndarray, "H W"]  # how far each pixel of the input was believed, 0 to 1
    # standard deviation of f before the codes are made sparse, of the posterior and of what it leaves unexplained of
    # the known pixels, in units of the image; None without a prior
    deviation: Float32[np.ndarray, "H W"] | None

    @cached_property
    def psnr(self) -> float:
        """Of `render()` against the pixels that were believed, in dB."""
        return self._psnr(self.render())

    def filled(self) -> ImageArray:
        """The input with f in place of the pixels that were not believed."""
        picture: ImageArray = np.where(self.trusted[..., None] > 0.5, self.image, self.render()).astype(np.float32)
        return picture

    def figures(self, picture: ImageArray) -> dict[str, Any]:
        """As of any image, but for what no one knows without the truth."""
        return {**super().figures(picture), "psnr_db": self._psnr(picture), "ssim": None}

    def write(self, folder: Path, **facts: Any) -> dict[str, Any]:
        """As of any image, `trusted.png`, and `deviation` as NPY and PNG, white where f is uncertain by a quarter."""
        self.write_maps(folder)
        return super().write(folder, **facts)

    def write_maps(self, folder: Path) -> None:
        """Write how far each pixel was believed, and how uncertain f is."""
        save_image(folder / "trusted.png", self.trusted[..., None])
        if self.deviation is not None:
            save_array(folder / "deviation.npy", self.deviation)
            save_image(folder / "deviation.png", np.clip(4 * self.deviation, 0, 1)[..., None])

    def _psnr(self, picture: ImageArray) -> float:
        believed = self.trusted > 0.5
        return psnr(picture[believed], self.image[believed])


@torch.no_grad()
def inpaint(
    model: Model,
    image: ImageArray,
    known: Bool[np.ndarray, "h w"] | None = None,
    *,
    noise: float = 0.01,
    prior: bool | None = None,
) -> InpaintedFit:
    """Refit an image from some of its pixels, by a dictionary of patches.

    Args:
        image: in [0, 1]; what is unknown in it does not matter, not even if it is not a number.
        known: the pixels to believe; None: they are found, as those that a robust fit explains (an L1 loss: what is
            wrong is sparse).
        noise: standard deviation of the known pixels.
        prior: whether the dictionary's prior fills in what is unknown; without, codes are fitted to the known pixels
            alone. None: where there is one.

    Raises:
        UserError: when the mask has another size than the image or leaves nothing, the dictionary is not of patches, or
            it has not the prior that is asked for.
    """
    require_images(model)
    require_channels(model, image)
    watch = Stopwatch(model.device)
    height, width = image.shape[:2]
    if known is None:
        trusted = find_known(model, image, noise=noise)
    else:
        check_mask(known, height, width)
        trusted = torch.from_numpy(known.astype(np.float32)).to(model.device)
    if prior:
        model.require_prior()
    image = np.nan_to_num(image)
    pixels = torch.where(trusted[..., None] > 0, torch.from_numpy(image).to(model.device), 0.0)
    tiling = _tiling(model, image, 1, _OVERLAP)

    def fitted(method: Method, solution: Solution, deviation: Tensor | None) -> InpaintedFit:
        solution = replace(solution, seconds=watch.seconds())
        spread = None if deviation is None else deviation.cpu().numpy()
        return InpaintedFit(method, solution, model, image, tiling, trusted.cpu().numpy(), spread)

    if model.prior is None or prior is False:
        solution = _sparse(model, pixels, trusted, tiling, weighted=True)
        return fitted(Method("irls", loss="l2", ridge=_RIDGE), solution, None)
    total, precision = torch.zeros_like(pixels), torch.zeros_like(trusted)
    for scale in SCALES:
        f, certain = _posterior(model, pixels, trusted, scale, noise)
        total, precision = total + certain[..., None] * f, precision + certain
    # Scales see the same pixels: together they are as certain as on average, not more.
    deviation = (len(SCALES) / precision).sqrt()

    def completed(estimate: Float[Tensor, "H W d"]) -> InpaintedFit:
        blended = trusted[..., None] * pixels + (1 - trusted[..., None]) * estimate
        solution = _sparse(model, blended, trusted, tiling, weighted=False)
        return fitted(Method("map", _BLOCKS, noise=noise), solution, deviation)

    fit = completed(total / precision[..., None])
    for _ in range(_REFITS - 1):
        fit = completed(torch.from_numpy(fit.render()).to(model.device))
    return fit


@torch.no_grad()
def find_known(model: Model, image: ImageArray, *, noise: float = 0.01) -> Float[Tensor, "H W"]:
    """Which pixels a robust fit of a dictionary of patches explains: 1 for one to believe, 0 for one not to.

    Corrupted pixels are to be sparse in each patch; `noise` is the standard deviation of the others.
    """
    values = torch.from_numpy(image).to(model.device)
    if model.prior is None:
        tiling = _tiling(model, image, 1, 2)
        measurement, tiles = Sampling(tiling.coords.to(model.device)), tiling.split(values)
        found = solve_irls(model.dictionary, measurement, tiles, max(1, model.support // 4))
        weights = tiling.assemble(found.weights[..., None])[..., 0]
        return (weights > 0.5).to(values.dtype)
    trusted = values.new_ones(values.shape[:2])
    for scale in (2, 1):
        tiling = _tiling(model, image, scale, 2)
        tiles, masks = tiling.split(values), tiling.split(trusted[..., None])[..., 0]
        space = _subspace(model, tiling)
        weights = masks
        for _ in range(_ROUNDS):
            seen = observe(space, tiles, weights, noise)
            size = (tiles - seen.values).square().mean(2).sqrt()
            # Half of a patch, be it wrong, cannot move its median.
            spread = (1.4826 * size.median(1, keepdim=True).values).clamp_min(noise)
            weights = masks * robust_weights(size, spread / 4, "l1")
        outlying = tiling.assemble((size / spread)[..., None])[..., 0]
        trusted = trusted * (outlying < 4).to(trusted.dtype)
    return trusted


def _posterior(
    model: Model, values: Float[Tensor, "H W d"], weights: Float[Tensor, "H W"], scale: int, noise: float
) -> tuple[Float[Tensor, "H W d"], Float[Tensor, "H W"]]:
    """f and its precision, from patches of `scale` times the dictionary's own width, blended by theirs."""
    tiling = _tiling(model, values, scale, _OVERLAP)
    tiles, masks = tiling.split(values), tiling.split(weights[..., None])[..., 0]
    seen = observe(_subspace(model, tiling), tiles, masks, noise)
    # What a patch cannot explain of its known pixels, it does not know of the others either.
    squares = masks * (tiles - seen.values).square().mean(2)
    misfit = squares.sum(1, keepdim=True) / masks.sum(1, keepdim=True).clamp_min(1)
    certain = (seen.deviation.square() + misfit).reciprocal()[..., None]
    precision = tiling.assemble(certain)
    return tiling.assemble(certain * seen.values) / precision, precision[..., 0]


def _sparse(
    model: Model, values: Float[Tensor, "H W d"], weights: Float[Tensor, "H W"], tiling: Tiling, *, weighted: bool
) -> Solution:
    """Codes of k coefficients of the tiles."""
    measurement, tiles = Sampling(tiling.coords.to(model.device)), tiling.split(values)
    masks = tiling.split(weights[..., None])[..., 0]
    parts: list[Solution] = []
    each = model.support * max(model.support, len(tiling.coords))
    at_once = max(1, floats_at_once(model.device, _CODED * each) // each)
    for first in range(0, len(tiles), at_once):
        part = slice(first, first + at_once)
        if weighted:
            solution: Solution = solve_irls(
                model.dictionary, measurement, tiles[part], model.support, loss="l2", weights=masks[part], ridge=_RIDGE
            )
        else:
            problem = reduce_problem(model.dictionary, measurement, tiles[part])
            solution = solve_omp(problem, model.support, _BLOCKS)
        parts.append(solution)
    return Solution(Code.concatenate([part.code for part in parts]), torch.cat([part.residual for part in parts]))


def _subspace(model: Model, tiling: Tiling) -> Subspace:
    return subspace(model.dictionary, model.require_prior(), tiling.coords.to(model.device))


def _tiling(model: Model, image: np.ndarray | Tensor, scale: int, overlap: int) -> Tiling:
    patch = model.config.signals_of(ImagesSection).patch
    if patch is None:
        raise UserError(
            "the dictionary",
            found="one of whole images (signals.patch: null)",
            expected="one of patches, which images of any size are made of",
            hint="train with signals.patch, for example configs/images.yaml",
        )
    return Tiling(image.shape[0], image.shape[1], scale * patch, max(1, scale * patch // overlap))


def check_mask(known: Bool[np.ndarray, "h w"], height: int, width: int) -> None:
    """Refuse a mask that cannot be that of an image of a height and width.

    Raises:
        UserError: when it has another size, or no pixel is known.

    Warns:
        UserWarning: when all are, so that nothing will be filled.
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
            "the mask", found="no known pixel", expected="some", hint="check its colours: white is known, black is not"
        )
    if known.all():
        warnings.warn(
            "the mask leaves no pixel unknown, so nothing is filled: white is known, black is not", stacklevel=2
        )
