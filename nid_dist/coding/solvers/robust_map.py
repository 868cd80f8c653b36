"""Robust fits of one signal under the prior, for many measurements of few kinds: reweighted heads first, one code last.

`solve_irls` chooses a code in every iteration. Here the iterations are of the merged head alone, whose features are
evaluated once; the code of k coefficients is that of the most probable head under the weights they end with.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.prior import Prior
from nid_dist.coding.solvers.map import code_of_head
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Measurement
from nid_dist.precision import full_precision

_ROWS = 2**16  # measurements at a time
_HUBER = 1.345  # times the noise, where the loss turns from square to linear


@dataclass(frozen=True)
class RobustHead:
    """A robust fit of one signal."""

    code: Code  # of k coefficients
    head: Float[Tensor, "r"]  # the most probable merged head, of which the code is the best approximation
    trust: Float[Tensor, "M"]  # of each measurement, in [0, 1]: what the loss left of its weight


@torch.no_grad()
@full_precision()
def solve_robust_map(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "M 1"],
    prior: Prior,
    *,
    noise: float,
    k: int,
    blocks: int | None = 8,
    weights: Float[Tensor, "M"] | None = None,
    iterations: int = 5,
) -> RobustHead:
    """Minimise sum_i w_i rho((f_i - y_i) / noise) plus the prior's quadratic form; rho is Huber's.

    The dictionary has linear heads and one channel; `noise` is the standard deviation of measurements of weight 1.
    """
    assert isinstance(dictionary.experts, LinearHeads) and dictionary.channels == 1
    features = torch.cat([part for _, part in measurement.chunks(_with_one(dictionary), _ROWS)])
    target, base = measured[:, 0], torch.ones_like(measured[:, 0]) if weights is None else weights
    trust = torch.ones_like(target)
    precision = prior.precision()
    linear = precision @ prior.mean.double()
    for _ in range(max(1, iterations)):
        weight = base * trust / noise**2
        scaled = features * weight[:, None]
        system = precision + (scaled.t() @ features).double()
        right = linear + (scaled.t() @ target).double()
        factor = torch.linalg.cholesky_ex(system)[0]  # of more than the prior's, which is positive
        head = torch.cholesky_solve(right[:, None], factor)[:, 0]
        residual = (features @ head.to(features.dtype) - target).abs() / noise
        trust = _HUBER / residual.clamp_min(_HUBER)
    return RobustHead(code_of_head(dictionary, head, system, k, blocks), head, trust)


def _with_one(dictionary: Dictionary):  # type: ignore[no-untyped-def]
    def field(coords: Tensor) -> Tensor:
        features = dictionary.trunk(coords)
        return torch.cat([features, torch.ones_like(features[:, :1])], 1)

    return field
