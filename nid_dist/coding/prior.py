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

    def root(self) -> Float[Tensor, "r r"]:
        """The symmetric square root of the covariance, in float64."""
        basis, floor = self._directions(), self.floor.double().sqrt()
        excess = self.variances.double().sqrt().clamp_min(floor) - floor
        return floor * torch.eye(len(basis), dtype=torch.float64, device=basis.device) + (basis * excess) @ basis.t()

    def precision(self) -> Float[Tensor, "r r"]:
        """The inverse of the covariance, in float64."""
        basis, floor = self._directions(), self.floor.double()
        excess = 1 / self.variances.double().clamp_min(floor) - 1 / floor
        return torch.eye(len(basis), dtype=torch.float64, device=basis.device) / floor + (basis * excess) @ basis.t()

    def _directions(self) -> Float[Tensor, "r q"]:
        # Kept in float32 they are orthonormal to 1e-7, which is more than a small floor leaves room for.
        return torch.linalg.qr(self.basis.double()).Q


def learn_prior(heads: Float[Tensor, "N r"], rank: int) -> Prior:
    """The Gaussian of which N merged heads are a sample; at most `rank` of its directions are kept.

    The variance in all other directions is what the heads have there, and besides what a new one will have: by how much
    each of them is missed by the affine hull of the others, which few heads of many numbers leave far away.
    """
    mean = heads.double().mean(0)
    centred = heads.double() - mean
    count, size = centred.shape
    # Of the two matrices with these eigenvalues the smaller.
    if count <= size:
        gram = centred @ centred.t()
        values, vectors = torch.linalg.eigh(gram / count)
        vectors = centred.t() @ (vectors / (count * values).clamp_min(1e-300).sqrt())
        missed = _missed(gram).mean()
    else:
        values, vectors = torch.linalg.eigh(centred.t() @ centred / count)
        missed = values.new_zeros(())
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    # Either sign is one; the same is taken however the heads have been rounded.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    spanned = max(1, min(count - 1, size, int((values > 1e-9 * values[0].clamp_min(1e-300)).sum())))
    kept = max(1, min(rank, spanned))
    floor = (values[kept:spanned].sum() + missed) / (size - kept) if kept < size else values[-1]
    floor = floor.clamp_min(1e-9 * values[0]).clamp_min(1e-12)
    return Prior(mean, vectors[:, :kept].contiguous(), values[:kept].clamp_min(floor), floor)


def _missed(gram: Float[Tensor, "N N"]) -> Float[Tensor, "N"]:
    """Squared distances of points from the affine hulls of the others, from inner products about their mean."""
    scale = gram.diagonal().mean().clamp_min(1e-300)
    # With an expensive constant in each point, only combinations whose weights sum to one come near a point.
    added = 1e-9 * scale
    system = gram + 1e3 * scale + added * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return (1 / torch.linalg.inv(system).diagonal() - added).clamp_min(0)


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
