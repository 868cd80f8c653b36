"""Kriging of every patch of an image by the patches around it that look like it (Lebrun, Buades and Morel 2013).

How the pixels of a small patch go together, its group of nearest patches says better than any prior of all photographs
can: their mean and their deviations from it are a Gaussian prior of this patch alone, under which the most probable
values follow from those that are known. Neighbouring patches overlap; each says a pixel the louder, the surer it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.device import to_device
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_FLOATS = 2**24  # of groups at a time


@dataclass(frozen=True)
class Similarity:
    """How patches are compared and what is believed of them: chosen on photographs that are for validation."""

    side: int = 8  # of a patch, in pixels
    stride: int = 4  # from one patch that is kriged to the next
    reach: int = 7  # how far a similar patch may be away, in pixels
    group: int = 80  # similar patches
    beside: float = 0.2  # share of a group's variance that every pixel has on its own
    constant: float = 0.1  # deviation of a patch's constant, of each channel
    noise: float = 0.01  # of each pixel on its own, at least


_OPTIONS = Similarity()


@torch.no_grad()
@full_precision()
def krige(
    image: Float[Tensor, "H W d"],
    known: Bool[Tensor, "H W"],
    options: Similarity = _OPTIONS,
    rounds: int = 4,
) -> Float[Tensor, "H W d"]:
    """The image with its unknown pixels kriged, so many times over: a better image finds better groups.

    Args:
        image: with a first guess of what is unknown; an image smaller than two patches is left as it is.
    """
    if min(image.shape[:2]) < 2 * options.side or bool(known.all()):
        return image
    for _ in range(rounds):
        image = torch.where(known[..., None], image, _round(image, known, options))
    return image


def _round(image: Float[Tensor, "H W d"], known: Bool[Tensor, "H W"], options: Similarity) -> Float[Tensor, "H W d"]:
    height, width, channels = image.shape
    side, stride, reach = options.side, options.stride, options.reach
    # Continued by its edge: patches cover the last rows and columns too.
    below, beyond = ((side - length) % stride for length in (height, width))
    sizes = (reach, reach + beyond, reach, reach + below)
    padded = torch.nn.functional.pad(image.movedim(2, 0)[None], sizes, mode="replicate")[0].movedim(0, 2).contiguous()
    trust = torch.nn.functional.pad(known.to(image.dtype), sizes).flatten()
    pixels, across = padded.flatten(0, 1), padded.shape[1]
    values, sureness = torch.zeros_like(pixels), torch.zeros_like(trust)
    offsets = torch.arange(-reach, reach + 1, device=image.device)
    inside = torch.arange(side, device=image.device)
    patch = (inside[:, None] * across + inside).flatten()
    each = len(offsets) ** 2 + options.group * side**2 * channels
    for places, rows, columns, distances in _bands(padded, known, options, (height + below, width + beyond)):
        down, right = rows[:, None] + offsets, columns[:, None] + offsets
        there = ((down >= 0) & (down <= height - side))[:, :, None] & ((right >= 0) & (right <= width - side))[:, None]
        distances = distances.masked_fill(~there.flatten(1), torch.inf)
        at_once = max(1, floats_at_once(image.device, _FLOATS) // each)
        for part in torch.arange(len(places), device=image.device).split(at_once):
            nearest = distances[part].topk(options.group, dim=1, largest=False)
            which = nearest.indices
            shift = offsets[which // len(offsets)] * across + offsets[which % len(offsets)]
            at = places[part, None] + patch
            found, variance = _kriged(
                pixels[(places[part, None] + shift)[..., None] + patch].flatten(2),
                nearest.values.isfinite(),
                pixels[at].flatten(1),
                trust[at],
                options,
            )
            weight = variance.reciprocal()
            values.index_add_(0, at.flatten(), (found * weight[..., None]).flatten(0, 1))
            sureness.index_add_(0, at.flatten(), weight.flatten())
    estimate = torch.where(sureness[:, None] > 0, values / sureness[:, None].clamp_min(1e-30), pixels)
    return estimate.view_as(padded)[reach : reach + height, reach : reach + width]


def _bands(
    padded: Float[Tensor, "P Q d"], known: Bool[Tensor, "H W"], options: Similarity, size: tuple[int, int]
) -> Iterator[tuple[Int[Tensor, "B"], Int[Tensor, "B"], Int[Tensor, "B"], Float[Tensor, "B O"]]]:
    """Patches of which something is unknown, a band of rows at a time.

    Where they start in the flattened padded image, their rows and columns, and how far every patch around is from them
    (root mean square).
    """
    side, stride, reach = options.side, options.stride, options.reach
    device, (height, width) = padded.device, size
    offsets = range(-reach, reach + 1)
    lost = torch.nn.functional.pad((~known.cpu()).float(), (0, width - known.shape[1], 0, height - known.shape[0]))
    wanted = torch.nn.functional.max_pool2d(lost[None], side, stride)[0] > 0
    columns_at = wanted.shape[1]
    rows_at_once = max(1, floats_at_once(device, _FLOATS) // (columns_at * len(offsets) ** 2))
    for first in range(0, wanted.shape[0], rows_at_once):
        some = wanted[first : first + rows_at_once]
        chosen = torch.nonzero(some)
        if not len(chosen):
            continue
        flat = to_device(chosen[:, 0] * columns_at + chosen[:, 1], device)
        top, tall = reach + stride * first, stride * (len(some) - 1) + side
        here = padded[top : top + tall, reach : reach + width]
        distances = padded.new_empty(len(chosen), len(offsets) ** 2)
        for number, (down, right) in enumerate((down, right) for down in offsets for right in offsets):
            there = padded[top + down : top + down + tall, reach + right : reach + right + width]
            squares = (here - there).square().sum(2)
            distances[:, number] = torch.nn.functional.avg_pool2d(squares[None], side, stride).flatten()[flat]
        rows, columns = (to_device(stride * (chosen[:, axis] + (first, 0)[axis]), device) for axis in (0, 1))
        yield (rows + reach) * padded.shape[1] + columns + reach, rows, columns, distances


def _kriged(
    group: Float[Tensor, "B n D"],
    there: Bool[Tensor, "B n"],
    patch: Float[Tensor, "B D"],
    trust: Float[Tensor, "B C"],
    options: Similarity,
) -> tuple[Float[Tensor, "B C d"], Float[Tensor, "B C"]]:
    """Patches, most probable given what is known of them, and the variance of each pixel, a mean over the channels."""
    points = trust.shape[1]
    channels = patch.shape[1] // points
    share = there.to(patch.dtype) / there.sum(1, keepdim=True)
    mean = torch.einsum("bn,bnd->bd", share, group)
    deviations = (group - mean[:, None]) * share.sqrt()[..., None]
    own = options.beside * deviations.square().sum(1).mean(1) + options.noise**2
    constants = options.constant * torch.eye(channels, device=patch.device, dtype=patch.dtype).repeat(1, points)
    basis = torch.cat([deviations, constants.expand(len(group), -1, -1)], 1)
    weights = trust.repeat_interleave(channels, 1) / own[:, None]
    system = (basis * weights[:, None]) @ basis.transpose(1, 2)
    system.diagonal(dim1=1, dim2=2).add_(1)
    factor = torch.linalg.cholesky_ex(system)[0]  # of more than the identity
    right = torch.einsum("bqd,bd->bq", basis, weights * (patch - mean))
    found = mean + torch.einsum("bqd,bq->bd", basis, torch.cholesky_solve(right[..., None], factor)[..., 0])
    half = torch.linalg.solve_triangular(factor, basis, upper=False)
    variance = half.square().sum(1).unflatten(1, (points, channels)).mean(2) + own[:, None]
    return found.unflatten(1, (points, channels)), variance
