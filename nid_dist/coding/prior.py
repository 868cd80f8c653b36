"""What merged heads of a dictionary's signals look like: a Gaussian, learned from the codes of training signals.

Where measurements are few, a code fits them in many ways; the prior says which of these are signals (probabilistic
principal components, Tipping and Bishop 1999, in the space of merged heads).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Prior:
    """u ~ N(mean, basis diag(variances) basis^T + floor (I - basis basis^T)) for merged heads u = (W, c + beta).

    A merged head has the form of a row of `LinearHeads`: sum_j alpha_j W_j flattened to d*h numbers, then the d numbers
    sum_j alpha_j c_j + beta.
    """

    mean: Float[Tensor, "r"]  # of the training signals
    basis: Float[Tensor, "r q"]  # orthonormal columns, the directions in which they vary most
    variances: Float[Tensor, "q"]  # along these
    floor: Float[Tensor, ""]  # variance along every other direction, positive

    def precision(self) -> Float[Tensor, "r r"]:
        """The inverse of the covariance, in float64."""
        basis, floor = self.basis.double(), self.floor.double()
        excess = 1 / self.variances.double().clamp_min(floor) - 1 / floor
        return torch.eye(len(basis), dtype=torch.float64, device=basis.device) / floor + (basis * excess) @ basis.t()


def learn_prior(mean: Float[Tensor, "r"], second_moment: Float[Tensor, "r r"], count: int, rank: int) -> Prior:
    """The most likely Gaussian of `count` merged heads, given their mean and the mean of their outer products.

    At most `rank` directions are kept. Those that the heads do not span get the variance of the weakest that they do.
    """
    covariance = second_moment.double() - torch.outer(mean.double(), mean.double())
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    spanned = max(1, min(count - 1, len(values), int((values > 1e-9 * values[0].clamp_min(1e-300)).sum())))
    kept = max(1, min(rank, spanned))
    rest = values[kept:spanned]
    floor = rest.mean() if len(rest) else values[kept - 1]
    floor = floor.clamp_min(1e-9 * values[0]).clamp_min(1e-12)
    return Prior(mean.double(), vectors[:, :kept].contiguous(), values[:kept].clamp_min(floor), floor)


class StoredPrior(nn.Module):
    """A `Prior` of heads of r = d * (h + 1) numbers, kept with a model's parameters; none until it is learned."""

    mean: Float[Tensor, "r"]
    basis: Float[Tensor, "r q"]
    variances: Float[Tensor, "q"]
    floor: Float[Tensor, ""]

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(size, min(rank, size)))
        self.register_buffer("variances", torch.zeros(min(rank, size)))
        self.register_buffer("floor", torch.zeros(()))

    @property
    def value(self) -> Prior | None:
        """The prior, once it is learned."""
        kept = self.variances > 0
        return Prior(self.mean, self.basis[:, kept], self.variances[kept], self.floor) if bool(kept.any()) else None

    def set(self, prior: Prior) -> None:
        """Keep a prior of at most `rank` directions."""
        count = len(prior.variances)
        self.mean.copy_(prior.mean)
        self.basis.zero_()[:, :count] = prior.basis
        self.variances.zero_()[:count] = prior.variances
        self.floor.copy_(prior.floor)
