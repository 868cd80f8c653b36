"""More resolution than was measured: a pixel is the mean of a finer image, whose patches the dictionary knows.

Every patch of the fine image is the most probable one that the coarse pixels in it allow, under the mixture of kinds of
patches that the training ended with, or without one under its Gaussian. Patches lie at every coarse pixel, and are blended
by how certain they are. The picture is then moved to where its means are the given pixels, and given sparse codes.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray, ImageFit, require_channels, require_images
from nid_dist.tasks.images.tiling import Tiling

_BLOCK = 96  # coarse pixels along the sides of what is restored at a time
_ROUNDS = 5  # of moving the picture to where its means are the pixels
_REFITS = 2  # of codes to what they miss of the pixels
_BLOCKS = 8  # rounds of selection of the codes


@dataclass(frozen=True, eq=False)
class ResolvedFit(ImageFit):
    """An image of a finer grid, whose codes make the whole picture; `image` is the coarse one that was given."""

    factor: int  # fine pixels along a coarse one
    deviation: Float32[np.ndarray, "H W"]  # standard deviation of the fine pixels before the codes are made sparse

    @cached_property
    def psnr(self) -> float:
        """Of the means of `render()` over the pixels that were given against these, in dB."""
        return psnr(self._means(self.render()), self.image)

    def figures(self, picture: ImageArray) -> dict[str, Any]:
        """As of any image, but for what no one knows without the truth."""
        return {**super().figures(self._enlarged()), "psnr_db": psnr(self._means(picture), self.image), "ssim": None}

    def _means(self, picture: ImageArray) -> ImageArray:
        means: ImageArray = area_means(torch.from_numpy(picture), self.factor).numpy()
        return means

    def _enlarged(self) -> ImageArray:
        return self.image


@torch.no_grad()
def super_resolve(model: Model, image: ImageArray, factor: int, *, noise: float = 0.003) -> ResolvedFit:
    """The image with `factor` times as many pixels along each side that has a given one as its means.

    Args:
        model: of patches, with a prior; with a mixture of kinds it does better.
        image: in [0, 1].
        factor: a whole number of at least 2, which divides the side of a patch.
        noise: standard deviation of the given pixels.

    Raises:
        UserError: when the image or the factor does not fit the dictionary, or it has no prior.
    """
    require_images(model)
    require_channels(model, image)
    patch = require_factor(model, factor)
    watch = Stopwatch(model.device)
    coarse = torch.from_numpy(image).to(model.device)
    fine, deviation = _restored(model, coarse, factor, noise)
    fine = _consistent(fine, coarse, factor)
    tiling = Tiling(*fine.shape[:2], patch, max(1, patch // 2))
    method, goal = Method("omp", _BLOCKS), fine
    made = Method("map", _BLOCKS, noise=noise)
    for round_ in range(_REFITS):
        fits = fit_signals(model, Sampling(tiling.coords.to(model.device)), tiling.split(goal), [method])
        solution = replace(fits[method.label], seconds=watch.seconds())
        fit = ResolvedFit(made, solution, model, image, tiling, factor, deviation.cpu().numpy())
        if round_ + 1 < _REFITS:
            missing = coarse - area_means(torch.from_numpy(fit.render()).to(coarse), factor)
            goal = goal + _enlarge(missing, factor, goal.shape[:2])
    return fit


def require_factor(model: Model, factor: int) -> int:
    """The side of the dictionary's patches, which a factor of resolution divides.

    Raises:
        UserError: for another factor, or a dictionary of whole images.
    """
    patch = model.config.signals_of(ImagesSection).patch
    if patch is None or factor < 2 or patch % factor or patch // factor < 2:
        whole = patch is None
        raise UserError(
            "the factor of resolution",
            found=f"{factor}" + (" with a dictionary of whole images" if whole else ""),
            expected="a dictionary of patches"
            if patch is None
            else "one of " + ", ".join(str(f) for f in range(2, patch // 2 + 1) if patch % f == 0),
            hint="train with signals.patch" if whole else "choose one of these: it has to divide the side of a patch",
        )
    return patch


def _restored(
    model: Model, coarse: Float[Tensor, "h w d"], factor: int, noise: float
) -> tuple[Float[Tensor, "H W d"], Float[Tensor, "H W"]]:
    """The fine image and its deviation, block by block with as much around each as patches reach."""
    patch = require_factor(model, factor) // factor
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
            tiles = Tiling(*part.shape[:2], patch, 1).split(part)
            known = restore(space, seen, mixture, tiles, noise)
            size = part.shape[0] * factor, part.shape[1] * factor
            tiling = Tiling(*size, patch * factor, factor)
            certain = known.deviation.square().reciprocal()[..., None]
            precision = tiling.assemble(certain)
            values = tiling.assemble(certain * known.values) / precision
            into = tuple(slice(f * factor, min(s, f + _BLOCK) * factor) for f, s in ((top, height), (left, width)))
            of = tuple(slice(i.start - s.start * factor, i.stop - s.start * factor) for i, s in zip(into, (rows, columns), strict=True))
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
