"""Signals that were all measured alike, restored under a mixture of Gaussians: a linear estimate for each kind."""

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.mixture import Mixture, log_density
from nid_dist.coding.solvers.subspace import Seen, Subspace
from nid_dist.precision import full_precision

_LEAST = 0.02  # probability of a kind below which it does not take part


@torch.no_grad()
@full_precision()
def restore(space: Subspace, seen: Subspace, mixture: Mixture, measured: Float[Tensor, "T M d"], noise: float) -> Seen:
    """The mean of what signals can be at the points of `space`, given what was measured of them.

    `seen` has the same directions as they are measured. A kind's deviation is that of its Gaussian, and where several
    kinds are possible, what they disagree by comes to it.
    """
    channels, directions = space.basis.shape[1:]
    flat, mean = space.basis.flatten(0, 1), space.mean.flatten()
    looks, residual = seen.basis.flatten(0, 1), (measured - seen.mean).flatten(1)
    beside = (noise**2 + seen.beside).repeat_interleave(channels)
    logits, estimates = [], []
    for weight, centre, factor in zip(mixture.weights, mixture.means, mixture.factors, strict=True):
        along = looks @ factor
        system = along @ along.t() + beside.diag()
        triangle = torch.linalg.cholesky(system.double()).to(system.dtype)
        logits.append(weight.log() + log_density(triangle, residual - looks @ centre))
        gain = torch.cholesky_solve(along, triangle)  # [M d, q]: of what a residual says of the kind's own directions
        left = torch.eye(directions, dtype=along.dtype, device=along.device) - along.t() @ gain
        estimates.append((gain @ factor.t(), centre, factor, left))
    shares = torch.stack(logits, 1).softmax(1)
    shares = torch.where(shares < _LEAST, torch.zeros_like(shares), shares)
    shares = shares / shares.sum(1, keepdim=True)
    latent = residual.new_zeros(len(residual), directions)
    square = residual.new_zeros(len(residual), len(flat))
    variance = torch.zeros_like(square)
    for kind, (gain, centre, factor, left) in enumerate(estimates):
        (rows,) = torch.nonzero(shares[:, kind], as_tuple=True)
        share = shares[rows, kind, None]
        own = centre + (residual[rows] - looks @ centre) @ gain
        latent.index_add_(0, rows, share * own)
        values = own @ flat.t()
        square.index_add_(0, rows, share * values.square())
        spread = flat @ factor
        variance.index_add_(0, rows, share * ((spread @ left) * spread).sum(1))
    values = latent @ flat.t()
    variance = (variance + square - values.square()).clamp_min(0).unflatten(1, (-1, channels)).mean(2)
    return Seen((mean + values).unflatten(1, (-1, channels)), (variance + space.beside).sqrt())
