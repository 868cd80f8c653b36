"""More resolution than was measured: a pixel is the mean of a finer image, whose patches the dictionary knows.

Every patch of the fine image is the most probable one that the coarse pixels in it allow, under the mixture of kinds of
patches that the training ended with, or without one under its Gaussian. Patches lie at every coarse pixel, and are
blended by how certain they are. The picture is then moved to where its means are the given pixels, and given sparse
codes.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nid_dist.coding.method import Method
from nid_dist.coding.mixture import Mixture
from nid_dist.coding.solvers.mixture_map import restore
from nid_dist.coding.solvers.subspace import subspace
from nid_dist.device import Stopwatch
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.fitting import fit_signals
from nid_dist.measurements.area import Area, area_means
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.images.fit import (
    ImageArray,
    ImageFit,
    require_channels,
    require_images,
    require_patches,
    require_size,
)
from nid_dist.tasks.images.tiling import Tiling

_BLOCK = 96  # coarse pixels along the sides of what is restored at a time
_ROUNDS = 5  # of moving the picture to where its means are the pixels
_REFITS = 2  # of codes to what they miss of the pixels
_OVERLAP = 4  # patches over a pixel, along each axis, of the codes
_BLOCKS = 8  # rounds of selection of the codes


@dataclass(frozen=True, eq=False)
class ResolvedFit(ImageFit):
    """An image of a finer grid, whose codes make the whole picture; `image` is the coarse one that was given."""

    scale: float  # how many times as many pixels `render()` has along each side
    factor: int  # the whole number, of at least as many, that the fine grid has
    deviation: Float32[
        np.ndarray, "fine_H fine_W"
    ]  # standard deviation of the fine pixels before the codes are made sparse

    @cached_property
    def psnr(self) -> float:
        """Of the means of `render()` over the pixels that were given against these, in dB."""
        return psnr(self.means(), self.image)

    def closeness(self, picture: ImageArray) -> dict[str, float | None]:
        """Of the means alone: no one knows more without the truth."""
        return {"psnr_db": self.psnr, "ssim": None}

    def means(self) -> ImageArray:
        """f's means over the pixels that were given."""
        found: ImageArray = area_means(torch.from_numpy(self.fine()), self.factor).numpy()
        return found

    def fine(self) -> ImageArray:
        """f on the fine grid."""
        return super().render()

    def render(self, height: int | None = None, width: int | None = None, *, scale: float | None = None) -> ImageArray:
        """As of any image; at the resolution that was asked for where none is named."""
        if height is None and width is None and scale is None:
            height, width = (max(1, round(side * self.scale)) for side in self.image.shape[:2])
        return super().render(height, width, scale=scale)


@torch.no_grad()
def super_resolve(model: Model, image: ImageArray, scale: float, *, noise: float = 0.01) -> ResolvedFit:
    """The image of `scale` times as many pixels along each side whose means over the given pixels are these.

    Args:
        model: of patches, with a prior; with a mixture of kinds it does better.
        image: in [0, 1].
        scale: above 1, not necessarily whole: f is fitted on a grid of `factor_of` it, and shown at any.
        noise: standard deviation of the given pixels.

    Raises:
        UserError: when the image or the scale does not fit the dictionary, or it has no prior.
    """
    require_images(model)
    require_channels(model, image)
    patch = require_patches(model)
    factor = factor_of(patch, scale)
    for times in (scale, factor):
        require_size(*(max(1, round(side * times)) for side in image.shape[:2]))
    watch = Stopwatch(model.device)
    coarse = torch.from_numpy(image).to(model.device)
    fine, deviation = _restored(model, coarse, factor, noise)
    fine = _consistent(fine, coarse, factor)
    tiling = Tiling(fine.shape[0], fine.shape[1], patch, max(1, patch // _OVERLAP))
    method, goal = Method("omp", _BLOCKS), fine
    made = Method("map", _BLOCKS, noise=noise)
    for round_ in range(_REFITS):
        fits = fit_signals(model, Sampling(tiling.coords.to(model.device)), tiling.split(goal), [method])
        solution = replace(fits[method.label], seconds=watch.seconds())
        fit = ResolvedFit(made, solution, model, image, tiling, scale, factor, deviation.cpu().numpy())
        if round_ + 1 < _REFITS:
            missing = coarse - area_means(torch.from_numpy(fit.fine()).to(coarse), factor)
            goal = goal + _enlarge(missing, factor, goal.shape[:2])
    return fit


def factor_of(patch: int, scale: float) -> int:
    """The whole multiple of resolution at which patches of a side are fitted for a scale.

    Patches begin and end with coarse pixels, and hold two along each axis at least: the next multiple that does, or the
    last one.

    Raises:
        UserError: when there is none, or the scale is not above 1.
    """
    factors = [factor for factor in range(2, patch // 2 + 1) if patch % factor == 0]
    if not factors or not scale > 1:
        raise UserError(
            "the scale",
            found=f"{scale:g} with patches of {patch}x{patch} pixels",
            expected="above 1, and patches whose side is a multiple of 2 to half of it",
            hint="choose a larger one" if factors else "train with signals.patch 16",
        )
    return next((factor for factor in factors if factor >= scale), factors[-1])


def _restored(
    model: Model, coarse: Float[Tensor, "h w d"], factor: int, noise: float
) -> tuple[Float[Tensor, "H W d"], Float[Tensor, "H W"]]:
    """The fine image and its deviation, block by block with as much around each as patches reach."""
    patch = require_patches(model) // factor
    prior = model.require_prior()
    space = subspace(model.dictionary, prior, model.coords)
    seen = subspace(model.dictionary, prior, Area((patch, patch), factor, model.device))
    mixture = model.mixture
    if mixture is None:
        directions = space.basis.shape[2]
        eye = torch.eye(directions, device=model.device)
        mixture = Mixture(eye.new_ones(1), eye.new_zeros(1, directions), eye[None])
    height, width = coarse.shape[:2]
    fine = coarse.new_empty(height * factor, width * factor, coarse.shape[2])
    deviation = coarse.new_empty(height * factor, width * factor)
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            rows, columns = (
                slice(max(0, first - patch), min(side, first + _BLOCK + patch))
                for first, side in ((top, height), (left, width))
            )
            part = coarse[rows, columns]
            tiles = Tiling(part.shape[0], part.shape[1], patch, 1).split(part)
            known = restore(space, seen, mixture, tiles, noise)
            size = part.shape[0] * factor, part.shape[1] * factor
            tiling = Tiling(size[0], size[1], patch * factor, factor)
            certain = known.deviation.square().reciprocal()[..., None]
            precision = tiling.assemble(certain)
            values = tiling.assemble(certain * known.values) / precision
            into = tuple(slice(f * factor, min(s, f + _BLOCK) * factor) for f, s in ((top, height), (left, width)))
            begin = rows.start * factor, columns.start * factor
            of = tuple(slice(i.start - b, i.stop - b) for i, b in zip(into, begin, strict=True))
            fine[into], deviation[into] = values[of], precision[..., 0].rsqrt()[of]
    return fine, deviation


def _consistent(fine: Float[Tensor, "H W d"], coarse: Float[Tensor, "h w d"], factor: int) -> Float[Tensor, "H W d"]:
    """Moved to where its means are the coarse pixels (back-projection, Irani and Peleg 1991)."""
    for _ in range(_ROUNDS):
        fine = fine + _enlarge(coarse - area_means(fine, factor), factor, fine.shape[:2])
    return fine


def _enlarge(coarse: Float[Tensor, "h w d"], factor: int, shape: tuple[int, ...]) -> Float[Tensor, "H W d"]:
    planes = torch.nn.functional.interpolate(
        coarse.movedim(2, 0)[None], size=tuple(shape), mode="bicubic", align_corners=False
    )
    return planes[0].movedim(0, 2)
