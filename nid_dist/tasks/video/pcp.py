"""Principal component pursuit: a matrix as low rank plus sparse, by inexact augmented Lagrange multipliers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_GROWTH = 1.5  # of the penalty, per iteration
_LARGEST = 1e7  # penalty, relative to the first


@dataclass(frozen=True)
class LowRankPlusSparse:
    """D = L + S."""

    low_rank: Float[Tensor, "M T"]  # L
    sparse: Float[Tensor, "M T"]  # S
    rank: int  # of L when it was last shrunk
    iterations: int  # done
    error: float  # |D - L - S| / |D|, Frobenius norms


@torch.no_grad()
def principal_component_pursuit(
    matrix: Float[Tensor, "M T"], weight: float | None = None, *, tolerance: float = 1e-7, iterations: int = 1000
) -> LowRankPlusSparse:
    """Minimise |L|_* + weight * |S|_1 subject to L + S = D, a frame in each column of D.

    Candes, Li, Ma and Wright, "Robust principal component analysis?", JACM 2011; algorithm 5 of Lin, Chen and Ma, "The
    augmented Lagrange multiplier method for exact recovery of corrupted low-rank matrices", 2010. Singular values
    come from the Gram matrix of the shorter side, in float64: a video has far fewer frames than pixels.

    Without a weight it is 1 / sqrt(max(M, T)), which recovers exactly with high probability. It ends at a relative
    error of `tolerance`, or after so many iterations.
    """
    data = matrix.double() if matrix.shape[0] >= matrix.shape[1] else matrix.double().t()
    weight = max(data.shape) ** -0.5 if weight is None else weight
    norm = data.norm().item()
    if norm == 0:
        return LowRankPlusSparse(torch.zeros_like(matrix), torch.zeros_like(matrix), 0, 0, 0.0)
    spectral = torch.linalg.eigvalsh(data.t() @ data)[-1].clamp_min(0).sqrt().item()
    multiplier = data / max(spectral, data.abs().max().item() / weight)
    sparse, low_rank = torch.zeros_like(data), torch.zeros_like(data)
    penalty = first = 1.25 / spectral
    rank, count, error = 0, 0, 1.0
    while count < iterations and error > tolerance:
        low_rank, rank = shrink_singular_values(data - sparse + multiplier / penalty, 1 / penalty)
        rest = data - low_rank + multiplier / penalty
        sparse = rest.sign() * (rest.abs() - weight / penalty).clamp_min(0)
        left = data - low_rank - sparse
        multiplier += penalty * left
        penalty, count, error = min(penalty * _GROWTH, first * _LARGEST), count + 1, left.norm().item() / norm
    if matrix.shape[0] < matrix.shape[1]:
        low_rank, sparse = low_rank.t(), sparse.t()
    return LowRankPlusSparse(low_rank.to(matrix.dtype), sparse.to(matrix.dtype), rank, count, error)


def shrink_singular_values(matrix: Float[Tensor, "M T"], threshold: float) -> tuple[Float[Tensor, "M T"], int]:
    """Lower all singular values by a threshold, those below it to zero: the proximal map of the nuclear norm.

    The matrix is no wider than tall; how many singular values are left is said, too.
    """
    squares, right = torch.linalg.eigh(matrix.t() @ matrix)
    values = squares.clamp_min(0).sqrt()
    kept = values > threshold
    right, values = right[:, kept], values[kept]
    return (matrix @ (right * ((values - threshold) / values))) @ right.t(), int(kept.sum())
