"""Inpainting: a corrupted image is refitted by the dictionary, with the corrupted pixels known or to be found.

What is unknown is first where the prior's energy of all overlapping patches is least, with the colours and the contrast
of what is known (`field.py`). A smooth plate takes over where known pixels are near (`smooth.py`), and similar patches
say the rest (`similar.py`). Then every patch is given a code of k coefficients, and what these leave over is detail:
splines on the pixels. The picture is made of codes and detail alone.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.judgement import Judgement
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import Solution, reduce_problem, solve_irls, solve_omp
from nid_dist.coding.solvers.subspace import Subspace, observe
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.detail import Detail
from nid_dist.detail.splines import SplineGrid
from nid_dist.device import Stopwatch
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import save_image
from nid_dist.files import expanded, save_array
from nid_dist.measurements.area import area_means
from nid_dist.measurements.sampling import Sampling
from nid_dist.memory import floats_at_once
from nid_dist.model import Model
from nid_dist.tasks.images.field import Colours, complete, with_colours
from nid_dist.tasks.images.fit import ImageArray, ImageFit, require_channels, require_images
from nid_dist.tasks.images.known_pixels import find_known, patch_subspace, patch_tiling, warn_of_holes
from nid_dist.tasks.images.masks import require_mask
from nid_dist.tasks.images.similar import krige
from nid_dist.tasks.images.smooth import smooth
from nid_dist.tasks.images.tiling import Tiling

_OVERLAP = 4  # patches over a pixel, along each axis
_BLOCKS = 8  # rounds of selection of the codes
_CODED = 1024  # patches given a code at a time on the CPU
_RIDGE = 1e-3  # of codes that are fitted to known pixels alone


@dataclass(frozen=True, eq=False)
class InpaintedFit(ImageFit):
    """A refitted image: overlapping patches, whose codes make the picture together with detail."""

    trusted: Float32[np.ndarray, "H W"]  # how far each pixel of the input was believed, 0 to 1
    # standard deviation of f before the codes are made sparse, of the posterior and of what it leaves unexplained of
    # the known pixels, in units of the image; None without a prior
    deviation: Float32[np.ndarray, "H W"] | None
    # over the whole image, of T = 1, what its codes leave over: of unknown pixels, and of known ones beyond their noise
    detail: Detail | None = None
    residual: float = 0.0  # of the equations of the smooth plate, relative

    def detail_at(self, height: int, width: int) -> Float[Tensor, "H W d"] | None:
        """The detail on a grid of any resolution."""
        if self.detail is None:
            return None
        coords = coordinate_grid((height, width)).to(self.detail.values.device)
        return self.detail(coords)[0].unflatten(0, (height, width))

    @property
    def judgement(self) -> Judgement:
        """Of the codes alone: detail can say anything."""
        return super().judgement if self.detail is None else replace(self, detail=None).judgement

    @property
    def corrupted(self) -> float:
        """Share of the pixels that were not believed."""
        return float((self.trusted <= 0.5).mean())

    @cached_property
    def psnr(self) -> float:
        """Of `render()` against the pixels that were believed, in dB."""
        return self._psnr(self.render())

    def filled(self) -> ImageArray:
        """The input with f in place of the pixels that were not believed."""
        picture: ImageArray = np.where(self.trusted[..., None] > 0.5, self.image, self.render()).astype(np.float32)
        return picture

    def closeness(self, picture: ImageArray) -> dict[str, float | None]:
        """Where the input was believed."""
        return {"psnr_db": self._psnr(picture), "ssim": None}

    def write(self, folder: str | Path, **facts: Any) -> dict[str, Any]:
        """As of any image, `trusted.png`, and `deviation` as NPY and PNG, white where f is uncertain by a quarter.

        The image's detail is in `detail.safetensors`, as that of a code that is zero.
        """
        folder = expanded(folder)
        self.write_maps(folder)
        if self.detail is not None:
            nothing = self.detail.values.new_zeros(1, self.image.shape[2])
            code = Code(nothing[:, :1], nothing, torch.zeros_like(nothing[:, :1], dtype=torch.long), detail=self.detail)
            code.save(folder / "detail.safetensors", "detail")
        return super().write(folder, **facts)

    def write_maps(self, folder: str | Path) -> None:
        """Write how far each pixel was believed, and how uncertain f is."""
        folder = expanded(folder)
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
        known: the pixels to believe; None: they are found (`find_known`).
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
        require_mask(known, height, width)
        trusted = torch.from_numpy(known.astype(np.float32)).to(model.device)
    if prior:
        model.require_prior()
    image = np.nan_to_num(image)
    pixels = torch.where(trusted[..., None] > 0, torch.from_numpy(image).to(model.device), 0.0)
    tiling = patch_tiling(model, image, 1, _OVERLAP)

    believed, spread = trusted > 0, None
    if model.prior is None or prior is False:
        method = Method("irls", loss="l2", ridge=_RIDGE)
        solution = _sparse(model, pixels, trusted, tiling, weighted=True)
        estimate = _painted(model, solution, tiling)
    else:
        warn_of_holes(believed, tiling)
        colours = Colours.of(pixels[believed])
        space = patch_subspace(model, tiling)
        # What is known is known up to its noise; and the more of it there is beside the prior's directions, the sooner
        # the least energy is found.
        space = with_colours(replace(space, beside=space.beside + noise**2), colours)
        estimate = complete(space, pixels, believed, colours)
        spread = _deviation(space, pixels, trusted, noise).cpu().numpy()
    smoothed = smooth(torch.where(believed[..., None], pixels, estimate), believed)
    estimate = krige(smoothed.image.clamp(0, 1), believed)
    if spread is not None:
        method = Method("map", _BLOCKS, noise=noise)
        solution = _sparse(model, estimate, trusted, tiling, weighted=False)
    left = estimate - _painted(model, solution, tiling)
    # Of a known pixel, what is no larger than its noise says nothing.
    told = ~believed | (left.square().mean(2).sqrt() > noise)
    values = torch.where(told[..., None], left, 0.0).flatten(0, 1)[None]
    detail = Detail((SplineGrid.on_pixels((height, width)),), values)
    solution, residual = replace(solution, seconds=watch.seconds()), float(smoothed.residual)
    return InpaintedFit(
        method, solution, model, image, tiling, trusted.cpu().numpy(), spread, detail=detail, residual=residual
    )


def _deviation(
    space: Subspace, values: Float[Tensor, "H W d"], weights: Float[Tensor, "H W"], noise: float
) -> Float[Tensor, "H W"]:
    """Standard deviation of f: of the posteriors of single patches, from fine to coarse ones, the least.

    A patch of pixels that are means over more and more of the image sees more and more around a hole. What it leaves
    uncertain of the image is what it does of the means, and besides how pixels vary about these under the prior, which
    natural images do alike at all scales. Where everything is known, it is the noise. What a patch cannot explain of
    its known pixels, it does not know of the others either.
    """
    side = round(len(space.mean) ** 0.5)
    blocks = area_means(space.basis.flatten(1).unflatten(0, (side, side)), 2)
    means = blocks.repeat_interleave(2, 0).repeat_interleave(2, 1)[:side, :side].flatten(0, 1)
    detail = (space.basis.flatten(1) - means).square().sum(1).mean() / space.basis.shape[1]
    found, factor = torch.full_like(weights, torch.inf), 1
    height, width = weights.shape
    values = weights[..., None] * values
    while True:
        share = area_means(weights[..., None], factor)
        coarse = area_means(values, factor) / share.clamp_min(1e-9)
        tiling = Tiling(coarse.shape[0], coarse.shape[1], side, side // 2)
        tiles, masks = tiling.split(coarse), tiling.split(share)[..., 0]
        (some,) = torch.nonzero((masks < 1).any(1), as_tuple=True)  # a GPU is waited for once a level
        variance = torch.full_like(masks, noise**2)
        if len(some):
            seen = observe(space, tiles[some], masks[some], noise)
            squares = masks[some] * (tiles[some] - seen.values).square().mean(2)
            misfit = squares.sum(1, keepdim=True) / masks[some].sum(1, keepdim=True).clamp_min(1)
            variance[some] = seen.deviation.square() + misfit
        combined = tiling.assemble(variance.reciprocal()[..., None])[..., 0].reciprocal()
        spread = combined.repeat_interleave(factor, 0).repeat_interleave(factor, 1)[:height, :width]
        found = torch.minimum(found, spread + detail * (factor.bit_length() - 1))
        if min(coarse.shape[:2]) < 2 * side:
            return found.sqrt()
        factor *= 2


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


def _painted(model: Model, solution: Solution, tiling: Tiling) -> Float[Tensor, "H W d"]:
    """What codes of the tiles make together."""
    return tiling.assemble(model.evaluate(solution.code, tiling.coords))
