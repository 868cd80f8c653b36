"""Signals in the directions that a dictionary's prior knows, each measured in its own places and with its own trust.

`solve_map` weighs all directions of a merged head, for measurements that all signals share. Inpainting has thousands of
patches, no two of them with the same pixels: here only the prior's principal directions are followed, u = mean + B s,
s ~ N(0, I), and what lies beside them counts as noise. A patch then costs a system of q numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.prior import Prior
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement, Sampling
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_FLOATS = 2**26  # of products of atoms, at a time


@dataclass(frozen=True)
class Subspace:
    """f = mean + basis s at some coordinates, s of independent standard normals, and noise beside it."""

    mean: Float[Tensor, "C d"]  # of f
    basis: Float[Tensor, "C d q"]  # f along each direction, by one standard deviation
    beside: Float[Tensor, "C"]  # variance of f in all other directions together


@dataclass(frozen=True)
class Seen:
    """What is known of T signals after measuring them."""

    values: Float[Tensor, "T C d"]  # f at the coordinates, most probable
    deviation: Float[Tensor, "T C"]  # standard deviation of f, a mean over the channels


@torch.no_grad()
@full_precision()
def subspace(dictionary: Dictionary, prior: Prior, at: Float[Tensor, "C m"] | Measurement) -> Subspace:
    """The directions of a prior on merged heads as functions at coordinates, or measured by what keeps constants."""
    channels, width = dictionary.channels, dictionary.trunk.out_dim
    measurement = Sampling(at) if isinstance(at, Tensor) else at
    parts = [part for _, part in measurement.chunks(dictionary.trunk, max(1, _FLOATS // width))]
    features, dtype = torch.cat(parts).double(), parts[0].dtype

    def functions(heads: Tensor) -> Tensor:
        """Merged heads [r, q] evaluated, [C, d, q]."""
        rows, offsets = heads[: channels * width].unflatten(0, (channels, width)), heads[channels * width :]
        return torch.einsum("ch,dhq->cdq", features, rows) + offsets

    basis = functions(prior.basis.double() * prior.variances.double().sqrt())
    beside = prior.floor.double() * (features.square().sum(1) + 1)
    return Subspace(functions(prior.mean.double()[:, None])[..., 0].to(dtype), basis.to(dtype), beside.to(dtype))


@torch.no_grad()
@full_precision()
def observe(space: Subspace, measured: Float[Tensor, "T C d"], weights: Float[Tensor, "T C"], noise: float) -> Seen:
    """What signals are, given some of their values: the posterior's mean and deviation.

    The noise's variance is divided by the weights; values of weight 0 are not looked at.
    """
    directions, channels = space.basis.shape[2], space.basis.shape[1]
    at_once = max(1, floats_at_once(measured.device, _FLOATS) // space.basis.numel())
    eye = torch.eye(directions, dtype=torch.float64, device=measured.device)
    flat = space.basis.flatten(0, 1)
    values, deviations = [], []
    for some, trust in zip(measured.split(at_once), weights.split(at_once), strict=True):
        # What lies beside the directions is noise that no trust removes.
        share = trust / (noise**2 + trust * space.beside)
        weighted = (share.repeat_interleave(channels, 1)[..., None] * flat).transpose(1, 2)
        system = (weighted @ flat).double() + eye
        error = torch.where(trust[..., None] > 0, some - space.mean, torch.zeros_like(some))
        factor = torch.linalg.cholesky_ex(system)[0]  # of more than the identity
        right = weighted @ error.flatten(1)[..., None]
        latent = torch.cholesky_solve(right.double(), factor)[..., 0].to(some.dtype)
        values.append(space.mean + torch.einsum("cdq,tq->tcd", space.basis, latent))
        half = torch.linalg.solve_triangular(factor.to(some.dtype), flat.t().expand(len(some), -1, -1), upper=False)
        variance = half.square().sum(1).unflatten(1, (len(space.mean), channels)).mean(2)
        deviations.append((variance + space.beside).sqrt())
    return Seen(torch.cat(values), torch.cat(deviations))
