"""A picture's code with detail: splines of compact support beside the learned experts of its support."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers import Solution
from nid_dist.coding.solvers.solution import Log
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.pursuit import pursue
from nid_dist.device import Stopwatch
from nid_dist.errors import UserError
from nid_dist.model import Model
from nid_dist.precision import full_precision

_MOST = 2**28  # floats of the learned experts' atoms, on all pixels
_PIXELS = 2**13  # on which they are evaluated at a time
_REGULAR = 1e-7  # of the largest eigenvalue of their products: what lies below is no direction of its own


@torch.no_grad()
@full_precision()
def add_detail(model: Model, solution: Solution, image: Float[Tensor, "H W d"], count: int) -> Solution:
    """The same support with `count` splines beside it, or fewer where these leave nothing over; all fitted together.

    Args:
        model: of whole images.
        solution: of this image alone, one signal.
        image: in [0, 1], on the model's device.
        count: numbers of detail.

    Raises:
        UserError: for more pixels than the learned experts' atoms have room for.
    """
    watch = Stopwatch(model.device)
    code, (height, width, channels) = solution.code, image.shape
    indices = torch.arange(code.values.shape[1], device=code.device) if code.indices is None else code.indices[0]
    used = indices if code.present is None else indices[code.present[0]]
    unknowns = len(used) + channels
    if unknowns * image.numel() > _MOST:
        raise UserError(
            "the image to fit with detail",
            found=f"{height}x{width} pixels and {len(used)} learned coefficients",
            expected=f"at most {_MOST // (unknowns * channels)} pixels for so many",
            hint="resize it, or fit it in patches without detail",
        )
    coords = coordinate_grid((height, width)).to(model.device)
    columns = _columns(model, used, coords)
    whitening = _whitening(columns)
    trend = (whitening @ columns).view(-1, height, width, channels)
    found = pursue(image, min(count, image.numel()), trend)
    shown = found.detail(coords)[0].view(height, width, channels)
    learned = whitening.t() @ (trend.flatten(1) @ (image - shown).flatten())
    values = code.values.new_zeros(1, code.values.shape[1])
    places = slice(None) if code.present is None else code.present[0]
    values[0, places] = learned[: len(used)]
    fitted = Code(values, learned[None, len(used) :], code.indices, code.present, found.detail)
    rest = (model.evaluate(fitted, coords)[0].view_as(image) - image).square().mean()
    last = {"detail": found.detail.numbers, "rounds": found.rounds, "equations": found.residual}
    log = Log([*solution.log, {name: float(figure) for name, figure in last.items()}])
    return replace(solution, code=fitted, residual=rest[None], log=log, seconds=solution.seconds + watch.seconds())


def require_detail(count: int, patch: int | None) -> None:
    """Refuse to choose less than one spline, or any for a dictionary of patches.

    Raises:
        UserError: when it is asked for.
    """
    if patch is not None:
        raise UserError(
            "detail",
            found=f"{count} with a dictionary of patches of {patch} pixels",
            expected="one of whole images (signals.patch: null)",
            hint="train such a one, for example configs/whole_images.yaml, or leave it out",
        )
    if count < 1:
        raise UserError("detail", found=str(count), expected="1 or more", hint="choose such a number, or leave it out")


def _columns(model: Model, used: Int[Tensor, "k"], coords: Float[Tensor, "C 2"]) -> Float[Tensor, "q p"]:
    """The atoms of experts and the biases, on all pixels."""
    alone = Code(coords.new_ones(len(used), 1), coords.new_zeros(len(used), model.channels), used[:, None])
    # Pixels at a time, not experts: the features are the same for all of these.
    atoms = torch.cat([model.dictionary(alone, part) for part in coords.split(_PIXELS)], 1).flatten(1)
    biases = torch.eye(model.channels, device=coords.device).repeat(1, len(coords))
    return torch.cat([atoms, biases])


def _whitening(columns: Float[Tensor, "q p"]) -> Float[Tensor, "r q"]:
    """What makes orthonormal rows of them, as many as they have directions of their own."""
    scale = columns.norm(dim=1).clamp_min(1e-12)
    even = (columns / scale[:, None]).double()
    values, vectors = torch.linalg.eigh(even @ even.t())
    kept = values > _REGULAR * values[-1]
    return (vectors[:, kept] / values[kept].sqrt() / scale.double()[:, None]).t().to(columns)
