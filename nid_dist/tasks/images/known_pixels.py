"""Which pixels of an image to believe where nobody says so."""

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nid_dist.coding.solvers import solve_irls
from nid_dist.coding.solvers.irls import robust_weights
from nid_dist.coding.solvers.subspace import Subspace, observe, subspace
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.images.fit import ImageArray, require_patches
from nid_dist.tasks.images.paint import find_paint
from nid_dist.tasks.images.smooth import smooth
from nid_dist.tasks.images.tiling import Tiling

_ROUNDS = 12  # of reweighting, where the corrupted pixels are to be found
_ALONE, _VARIES = 0.12, 2.5  # a corrupted pixel is off by so much, and by so many deviations of the pixels around it


@torch.no_grad()
def find_known(model: Model, image: ImageArray, *, noise: float = 0.01) -> Float[Tensor, "H W"]:
    """Which pixels to believe: 1 for one, 0 for one that is corrupted.

    What covers the image in groups is found by its colours (`paint.py`). Of the others, those are not believed that
    neither a robust fit of the dictionary explains nor the pixels around them; they are to be sparse in each patch.
    `noise` is the standard deviation of the others.

    Warns:
        UserWarning: when half of the image or more is not.
    """
    image = np.nan_to_num(image)
    painted = torch.from_numpy(find_paint(image)).to(model.device)
    values = torch.from_numpy(image).to(model.device)
    explained = _explained(model, values, (~painted).to(values.dtype), noise)
    lost = painted | ((explained == 0) & _alone(values, explained > 0))
    share = float(lost.float().mean())
    if share >= 0.5:
        warnings.warn(
            f"{share:.0%} of the image look corrupted: what is flat may be as it should be; name the pixels by a mask",
            stacklevel=3,
        )
    return (~lost).to(values.dtype)


def _explained(model: Model, values: Float[Tensor, "H W d"], trusted: Tensor, noise: float) -> Float[Tensor, "H W"]:
    """1 where a pixel was trusted before and a robust fit explains it."""
    if model.prior is None:
        tiling = patch_tiling(model, values, 1, 2)
        measurement, tiles = Sampling(tiling.coords.to(model.device)), tiling.split(values)
        masks = tiling.split(trusted[..., None])[..., 0]
        found = solve_irls(model.dictionary, measurement, tiles, max(1, model.support // 4), weights=masks)
        weights = tiling.assemble(found.weights[..., None])[..., 0]
        return trusted * (weights > 0.5)
    for scale in (2, 1):
        tiling = patch_tiling(model, values, scale, 2)
        tiles, masks = tiling.split(values), tiling.split(trusted[..., None])[..., 0]
        space = patch_subspace(model, tiling)
        weights = masks
        for _ in range(_ROUNDS):
            seen = observe(space, tiles, weights, noise)
            size = (tiles - seen.values).square().mean(2).sqrt()
            # Half of what is known of a patch, be it wrong, cannot move its median.
            known = torch.where(masks > 0, size, torch.full_like(size, torch.nan))
            spread = (1.4826 * known.nanmedian(1, keepdim=True).values).nan_to_num(1.0).clamp_min(noise)
            weights = masks * robust_weights(size, spread / 4, "l1")
        outlying = tiling.assemble((size / spread)[..., None])[..., 0]
        trusted = trusted * (outlying < 4)
    return trusted


def _alone(values: Float[Tensor, "H W d"], known: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Where the pixels around that are known foretell another value, by far more than these vary."""
    planes, weight = values.movedim(2, 0)[None], known.to(values.dtype)[None, None]

    def around(field: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(field, 5, 1, 2, count_include_pad=False)

    share = around(weight).clamp_min(1e-6)
    mean = around(weight * planes) / share
    variance = (around(weight * planes.square()) / share - mean.square()).clamp_min(0)
    start = torch.where(around(weight) > 0, mean, planes.mean((2, 3), keepdim=True))[0].movedim(0, 2)
    foretold = smooth(torch.where(known[..., None], values, start), known).image
    error = (values - foretold).square().mean(2).sqrt()
    return error > (_VARIES * variance[0].mean(0).sqrt()).clamp_min(_ALONE)


def patch_subspace(model: Model, tiling: Tiling) -> Subspace:
    """The directions of a model's prior as functions on a tile, in units of the image."""
    return subspace(model.dictionary, model.require_prior(), tiling.coords.to(model.device))


def patch_tiling(model: Model, image: np.ndarray | Tensor, scale: int, overlap: int) -> Tiling:
    """Tiles of a model's patches, `scale` times as large, of which about `overlap` cover a pixel along each axis."""
    patch = require_patches(model)
    return Tiling(image.shape[0], image.shape[1], scale * patch, max(1, scale * patch // overlap))


def warn_of_holes(known: Bool[Tensor, "H W"], tiling: Tiling) -> None:
    """Say when there are patches of which nothing is known.

    Warns:
        UserWarning: with their share.
    """
    blind = 1 - tiling.split(known[..., None].to(torch.float32)).amax((1, 2)).mean()
    if float(blind) > 0:
        side = tiling.patch
        warnings.warn(
            f"no pixel is known of {float(blind):.1%} of the patches of {side}x{side}: what fills them is a guess",
            stacklevel=3,
        )
