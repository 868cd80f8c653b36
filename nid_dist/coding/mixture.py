"""Signals of several kinds: a mixture of Gaussians in the directions that the prior on merged heads knows.

One Gaussian says how strongly signals vary along each direction; several say which variations go together, such as
those along an edge. Where a prior has to make up what was not measured, these are worth more (Zoran and Weiss 2011; Yu,
Sapiro and Mallat 2012).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.prior import Prior

_ITERATIONS = 5
_SEEDS = 8  # iterations of the clustering that it begins with
_SHRINK = 40.0  # signals that the whole population counts for in the covariance of a kind
_FLAT = 0.06  # contrast below which it does not matter which way a signal varies, times the root mean square of all
_FEW = 100  # signals that a kind is learned from, at least
_LEAST = 1e-4  # variance of a kind along a direction, that of all signals being one


@dataclass(frozen=True)
class Mixture:
    """p(s) = sum_k w_k N(s; mean_k, factor_k factor_k^T), s the coordinates of a merged head, in standard deviations.

    u = prior.mean + prior.basis diag(prior.variances)^(1/2) s.
    """

    weights: Float[Tensor, "K"]  # sum to one
    means: Float[Tensor, "K q"]
    factors: Float[Tensor, "K q q"]  # lower triangles


def learn_mixture(prior: Prior, heads: Float[Tensor, "N r"], kinds: int, *, channels: int, seed: int = 0) -> Mixture:
    """The mixture of at most so many kinds of which N merged heads are a sample, by expectation and maximisation.

    It begins with clusters of signals that vary alike, whatever their mean and contrast: of heads less their last
    `channels` numbers, the offsets.
    """
    basis, variances = prior.basis.to(heads), prior.variances.to(heads)
    signals = ((heads - prior.mean.to(heads)) @ basis / variances.sqrt()).float()
    count, directions = signals.shape
    kinds = max(1, min(kinds, count // _FEW))
    eye = torch.eye(directions, device=signals.device)
    belongs = nn.functional.one_hot(_clusters(prior, signals, kinds, channels, seed), kinds).to(signals)
    for step in range(_ITERATIONS if kinds > 1 else 1):
        sizes = belongs.sum(0).clamp_min(1e-3)
        means, weights = belongs.t() @ signals / sizes[:, None], sizes / sizes.sum()
        factors, logits = [], []
        for kind in range(kinds):
            centred = signals - means[kind]
            scatter = (centred * belongs[:, kind, None]).t() @ centred
            contrast = (scatter.diagonal().mean() / sizes[kind]).clamp(1e-3, 10)
            covariance = (scatter + _SHRINK * contrast * eye) / (sizes[kind] + _SHRINK) + _LEAST * eye
            factors.append(torch.linalg.cholesky_ex(covariance.double())[0].float())
            logits.append(weights[kind].log() + log_density(factors[-1], centred))
        if step + 1 < _ITERATIONS:
            belongs = torch.stack(logits, 1).softmax(1)
    return Mixture(weights, means, torch.stack(factors))


def log_density(factor: Float[Tensor, "p p"], centred: Float[Tensor, "N p"]) -> Float[Tensor, "N"]:
    """Of a Gaussian of covariance factor factor^T about its mean."""
    scaled = torch.linalg.solve_triangular(factor, centred.t(), upper=False)
    return -0.5 * (scaled.square().sum(0) + len(factor) * math.log(2 * math.pi)) - factor.diagonal().log().sum()


def _clusters(prior: Prior, signals: Float[Tensor, "N q"], kinds: int, channels: int, seed: int) -> Int[Tensor, "N"]:
    """Clusters of the directions in which signals vary within themselves (k-means on a sphere, flat ones inside it)."""
    varying = prior.basis[:-channels].to(signals) * prior.variances.to(signals).sqrt()
    values, vectors = torch.linalg.eigh((varying.t() @ varying).double())
    points = signals @ (vectors * values.clamp_min(0).sqrt()).to(signals)
    sizes = points.norm(dim=1, keepdim=True)
    points = points / (sizes + _FLAT * sizes.square().mean().sqrt()).clamp_min(1e-20)
    generator = torch.Generator().manual_seed(seed % 2**63)
    order = torch.randperm(len(points), generator=generator).to(points.device)
    centres = points[order[:kinds]].clone()
    for _ in range(_SEEDS):
        nearest = nn.functional.one_hot(torch.cdist(points, centres).argmin(1), kinds).to(points)
        sizes = nearest.sum(0)[:, None]
        centres = torch.where(sizes > 0, nearest.t() @ points / sizes.clamp_min(1), centres)
    return torch.cdist(points, centres).argmin(1)


class StoredMixture(nn.Module):
    """A `Mixture` of at most K kinds along q directions, kept with a model's parameters; none until it is learned."""

    weights: Float[Tensor, "K"]
    means: Float[Tensor, "K q"]
    factors: Float[Tensor, "K q q"]

    def __init__(self, kinds: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(kinds))
        self.register_buffer("means", torch.zeros(kinds, directions))
        self.register_buffer("factors", torch.zeros(kinds, directions, directions))

    @property
    def value(self) -> Mixture | None:
        """The mixture, once it is learned, along the directions that the prior has."""
        kept = self.weights > 0
        if not bool(kept.any()):
            return None
        along = self.factors[kept][0].diagonal() > 0
        return Mixture(self.weights[kept], self.means[kept][:, along], self.factors[kept][:, along][:, :, along])

    def set(self, mixture: Mixture) -> None:
        """Keep a mixture of at most K kinds along at most q directions."""
        kinds, directions = mixture.means.shape
        self.weights.zero_()[:kinds] = mixture.weights
        self.means.zero_()[:kinds, :directions] = mixture.means
        self.factors.zero_()[:kinds, :directions, :directions] = mixture.factors
