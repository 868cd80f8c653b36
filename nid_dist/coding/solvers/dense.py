"""Dense fits: the merged head of each signal by least squares, with no code behind it.

With the trunk fixed f is linear in the merged head, so that this is the most that a dictionary can say of a signal.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.solvers.own import PASS, reduce_own
from nid_dist.coding.solvers.ridge import penalty
from nid_dist.coding.solvers.statistics import gather_statistics
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.dictionary.trunk import Trunk
from nid_dist.measurements.sampling import Sampling
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision
from nid_dist.samples import Samples


@torch.no_grad()
@full_precision()
def solve_heads(trunk: Trunk, heads: LinearHeads, samples: Samples, ridge: float) -> Float[Tensor, "T r"]:
    """Minimise the mean of |W phi(x) + c - y|^2 plus `ridge` times (mean square of centred features) * |W|^2.

    Returns:
        W and c of each signal, as a row of `LinearHeads` has them, in float64.
    """
    if samples.shared and not samples.weighted:
        known = gather_statistics(trunk, Sampling(samples.coords), samples.values)
        eye = torch.eye(len(known.gram), dtype=known.gram.dtype, device=known.gram.device)
        factor = torch.linalg.cholesky(known.gram + penalty(known.gram.diagonal().mean(), ridge) * eye)
        weight = torch.cholesky_solve(known.cross, factor).transpose(1, 2)
        offset = known.target_means - weight @ known.means
        return torch.cat([weight.flatten(1), offset], 1)
    each = trunk.out_dim * max(trunk.out_dim, samples.values.shape[1])
    at_once = max(1, floats_at_once(samples.device, PASS * 16) // each)
    parts = range(0, max(1, len(samples)), at_once)
    return torch.cat(
        [_each_its_own(trunk, heads, samples.rows(slice(first, first + at_once)), ridge) for first in parts]
    )


def _each_its_own(trunk: Trunk, heads: LinearHeads, samples: Samples, ridge: float) -> Float[Tensor, "T r"]:
    coords = samples.coords[None] if samples.shared else samples.coords

    def passes(points: int) -> Iterator[tuple[slice, Float[Tensor, "B P h"]]]:
        for first in range(0, coords.shape[1], points):
            part = slice(first, first + points)
            yield part, trunk(coords[:, part].flatten(0, 1)).unflatten(0, (len(coords), -1))

    ones = samples.values.new_ones(coords.shape[1], dtype=torch.float64)
    problem = reduce_own(heads, passes, samples.values, samples.weights, ones)
    factors, targets = problem.factors.double(), problem.targets.double()
    # (L L^T + a)^-1 L y = L (L^T L + a)^-1 y, of which the latter has as many rows as there are measurements, at most.
    system = factors.transpose(1, 2) @ factors
    added = penalty(factors.square().sum((1, 2)) / factors.shape[1], ridge)
    system.diagonal(dim1=1, dim2=2).add_(added[:, None])
    solved = torch.cholesky_solve(targets.transpose(1, 2), torch.linalg.cholesky(system))
    weight = (factors @ solved).transpose(1, 2)
    offset = problem.target_means.double() - torch.einsum("tdh,th->td", weight, problem.means.double())
    return torch.cat([weight.flatten(1), offset], 1)
