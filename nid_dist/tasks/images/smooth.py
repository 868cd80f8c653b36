"""The smoothest picture through the known pixels that stays near what a prior says of the others.

One quadratic problem with two priors: the biharmonic energy of a thin plate, and, weakly, the distance from the field
that the dictionary's prior makes (screening). In narrow gaps the plate decides, which no prior of patches beats there;
in the middle of a wide hole it has nothing to say, and the dictionary does.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nid_dist.conjugate_gradients import conjugate_gradients

# Of the field: a plate bends back to it within (1 / screening) ** 0.25 = 5.6 pixels. Chosen on boxes and occluders over
# photographs and portraits that are for validation.
_SCREENING = 1e-3
_ITERATIONS = 300
_TOLERANCE = 1e-4  # of the gradient, relative


@dataclass(frozen=True)
class Smoothed:
    """A picture, and how well its equations are solved."""

    image: Float[Tensor, "H W d"]
    residual: Float[Tensor, ""]  # norm of the gradient relative to the start's


@torch.no_grad()
def smooth(image: Float[Tensor, "H W d"], known: Bool[Tensor, "H W"], screening: float = _SCREENING) -> Smoothed:
    """Minimise |Laplacian u|^2 + screening |u - image|^2 over unknown pixels, by conjugate gradients from `image`.

    In float64: the condition number is 64 / screening. At the border the picture goes on as at its edge.
    """
    first = image.double()
    free = (~known)[..., None].double()

    def gradient(field: Tensor) -> Tensor:
        return (_laplacian(_laplacian(field)) + screening * field) * free

    force = screening * first * free - gradient(first)
    moved = conjugate_gradients(gradient, force, iterations=_ITERATIONS, tolerance=_TOLERANCE)
    field = (first + moved.value).to(image.dtype)
    return Smoothed(torch.where(known[..., None], image, field), moved.residual)


def _laplacian(field: Float[Tensor, "H W d"]) -> Float[Tensor, "H W d"]:
    """Of five points; symmetric as an operator, as beyond the border stands what is at the edge."""
    padded = torch.nn.functional.pad(field.movedim(2, 0)[None], (1, 1, 1, 1), mode="replicate")[0].movedim(0, 2)
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return sides - 4 * field
