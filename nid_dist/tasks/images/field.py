"""An image as one field, of which the prior of a dictionary of patches knows every patch.

The energy of an image is that of all its overlapping patches under the Gaussian prior (Roth and Black 2005; Zoran and
Weiss 2011): what is unknown is where it is least, given what is known. So neighbouring patches agree, and what is known
at the border of a hole reaches its middle through patches that see nothing of it. The constant in a patch costs
nothing: far from what is known the field goes on as it was, rather than back to the training signals' mean.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nid_dist.coding.solvers.subspace import Subspace
from nid_dist.conjugate_gradients import conjugate_gradients
from nid_dist.data.tiles import tile_samples
from nid_dist.device import to_device
from nid_dist.measurements.area import area_means
from nid_dist.precision import full_precision
from nid_dist.tasks.images.tiling import Tiling

_FREE = 3.0  # standard deviations of the image's colours that a patch's constant may have: as good as any
_ITERATIONS = 60
_TOLERANCE = 1e-4  # of the gradient, relative
_PATCHES = 4096  # at a time


@dataclass(frozen=True)
class Colours:
    """Mean and covariance of the colours of pixels."""

    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]

    @classmethod
    def of(cls, pixels: Float[Tensor, "N d"]) -> "Colours":
        """Those of at least one pixel."""
        centred = pixels - pixels.mean(0)
        return cls(pixels.mean(0), centred.t() @ centred / len(pixels))

    @classmethod
    def of_space(cls, space: Subspace) -> "Colours":
        """Those of signals of a prior, at all points together."""
        mean = space.mean.mean(0)
        centred = space.mean - mean
        spread = torch.einsum("cdq,ceq->de", space.basis, space.basis) + centred.t() @ centred
        return cls(mean, spread / len(space.mean))

    def towards(self, other: "Colours") -> Float[Tensor, "d d"]:
        """The linear map that gives colours of this covariance that of the other and moves them least.

        Between Gaussians, the optimal transport (Pitie and Kokaram 2007): grey stays grey.
        """
        root, inverse = _root(self.covariance), torch.linalg.pinv(_root(self.covariance).double(), rtol=1e-4)
        middle = _root(root @ other.covariance @ root)
        return (inverse @ middle.double() @ inverse).to(root.dtype)


def _root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(matrix.double())
    return ((vectors * values.clamp_min(0).sqrt()) @ vectors.t()).to(matrix.dtype)


def with_colours(space: Subspace, colours: Colours) -> Subspace:
    """The prior of signals that have an image's palette: its mean, and its contrast along every colour."""
    own = Colours.of_space(space)
    turn = own.towards(colours)
    mean = colours.mean + (space.mean - own.mean) @ turn.t()
    return Subspace(mean, torch.einsum("de,ceq->cdq", turn, space.basis), space.beside)


@torch.no_grad()
@full_precision()
def complete(
    space: Subspace, image: Float[Tensor, "H W d"], known: Bool[Tensor, "H W"], colours: Colours
) -> Float[Tensor, "H W d"]:
    """The image with its unknown pixels where its energy is least, from a coarse grid down to its own.

    Args:
        space: of the prior, on the grid of a patch.
        image: of which unknown pixels do not matter.
        known: at least one.
        colours: of the image.
    """
    images, weights = [torch.where(known[..., None], image, 0.0)], [known[..., None].to(image.dtype)]
    side = round(len(space.mean) ** 0.5)
    while min(images[-1].shape[:2]) >= 2 * side:
        weight = area_means(weights[-1], 2)
        images.append(area_means(images[-1] * weights[-1], 2) / weight.clamp_min(1e-9))
        weights.append(weight)
    # Which patches there are is decided where no one waits for it.
    here = known.cpu()
    shares = here[..., None].float()
    lost = [~here, *(area_means(shares, 2**level)[..., 0] < 0.5 for level in range(1, len(images)))]
    found = torch.where(weights[-1] > 0, images[-1], colours.mean)
    for level in range(len(images) - 1, -1, -1):
        unknown = lost[level]
        if level + 1 < len(images):
            found = _enlarged(found, images[level].shape[:2])
        start = torch.where(to_device(unknown, image.device)[..., None], found, images[level])
        stride = max(1, side // 4) if level == 0 else max(1, side // 8)
        found = _least(space, start, unknown, colours, Tiling(start.shape[0], start.shape[1], side, stride))
    return found


def _enlarged(image: Float[Tensor, "h w d"], shape: tuple[int, ...]) -> Float[Tensor, "H W d"]:
    planes = image.movedim(2, 0)[None]
    doubled = torch.nn.functional.interpolate(planes, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[0, :, : shape[0], : shape[1]].movedim(0, 2)


def _least(
    space: Subspace, start: Float[Tensor, "H W d"], unknown: Bool[Tensor, "H W"], colours: Colours, tiling: Tiling
) -> Float[Tensor, "H W d"]:
    """Conjugate gradients on the unknown pixels, from `start`."""
    height, width, channels = start.shape
    places = _places(tiling)
    places = places[unknown.flatten()[places].any(1)]
    if not len(places):
        return start
    places, free = to_device(places, start.device), to_device(unknown.flatten()[:, None].float(), start.device)
    constant = (_FREE * _root(colours.covariance)).expand(len(space.mean), -1, -1)
    basis = torch.cat([space.basis, constant], 2).flatten(0, 1)
    beside = space.beside.repeat_interleave(channels)
    scaled = basis / beside[:, None]
    inner = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device) + (scaled.t() @ basis).double()
    # (D + B B^T)^-1 = D^-1 - S S^T, with S = D^-1 B (I + B^T D^-1 B)^(-1/2).
    root = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), scaled.t().double(), upper=False).t().to(scaled)

    def gradient(field: Float[Tensor, "P d"], mean: Tensor | float) -> Float[Tensor, "P d"]:
        total = torch.zeros_like(field)
        for some in places.split(_PATCHES):
            patches = field[some].flatten(1) - mean
            forces = patches / beside - (patches @ root) @ root.t()
            total.index_add_(0, some.flatten(), forces.unflatten(1, (-1, channels)).flatten(0, 1))
        return total * free

    field = start.flatten(0, 1)
    force = -gradient(field, space.mean.flatten())
    moved = conjugate_gradients(
        lambda direction: gradient(direction, 0.0), force, iterations=_ITERATIONS, tolerance=_TOLERANCE
    )
    return (field + moved.value).unflatten(0, (height, width))


def _places(tiling: Tiling) -> Tensor:
    """[N, C] of each pixel of each tile, its place in the flattened image."""
    rows, columns = (
        tile_samples(starts, size, length)
        for starts, size, length in (
            (tiling.rows, tiling.patch_shape[0], tiling.height),
            (tiling.cols, tiling.patch_shape[1], tiling.width),
        )
    )
    return (rows[:, None, :, None] * tiling.width + columns[None, :, None, :]).flatten(2).flatten(0, 1)
