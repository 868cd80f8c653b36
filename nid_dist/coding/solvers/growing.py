"""Ridge values on supports that grow, without factorising their systems anew (Rubinstein, Zibulevsky and Elad 2008)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.solvers.ridge import ROUNDING


class GrowingRefits:
    """The inverse of each signal's Cholesky factor, to which chosen atoms add rows.

    With system = L L^T and M = L^-1 the values are M^T (M right). An atom more is a row more of M, and a refit costs
    k^2 multiplications instead of k^3. Given are the inner products of all atoms, and of signals and atoms, what is
    added to the diagonals, and the largest support.
    """

    def __init__(
        self, gram: Float[Tensor, "n n"], right: Float[Tensor, "T n"], penalty: Float[Tensor, ""], most: int
    ) -> None:
        self._gram, self._right, self._penalty = gram, right, penalty.double()
        self._inverse = torch.zeros(len(right), most, most, dtype=torch.float64, device=gram.device)
        self._values = torch.zeros(len(right), most, dtype=torch.float64, device=gram.device)
        self._limit = ROUNDING[gram.dtype] * gram.diagonal().max().double()
        self._size = 0

    def add(self, indices: Int[Tensor, "T k"]) -> Float[Tensor, "T k"] | None:
        """The values on larger supports, whose first atoms are those of the last call.

        None where rounding would decide, after which this is of no use.
        """
        old, new = indices[:, : self._size], indices[:, self._size :]
        total = indices.shape[1]
        across = self._gram[new[:, :, None], old[:, None, :]].double()
        system = self._gram[new[:, :, None], new[:, None, :]].double()
        system.diagonal(dim1=1, dim2=2).add_(self._penalty)
        known = self._inverse[:, : self._size, : self._size]
        factor = across @ known.transpose(1, 2)
        corner, failed = torch.linalg.cholesky_ex(system - factor @ factor.transpose(1, 2))
        pivots = corner.diagonal(dim1=1, dim2=2).square()
        if not bool(((failed == 0) & (pivots > self._limit).all(1)).all()):
            return None
        right = self._right.gather(1, new).double()[..., None] - across @ self._values[:, : self._size, None]
        eye = torch.eye(total - self._size, dtype=system.dtype, device=system.device).expand_as(system)
        rows = torch.linalg.solve_triangular(corner, torch.cat([-(factor @ known), eye], 2), upper=False)
        step = torch.linalg.solve_triangular(corner, right, upper=False)
        self._inverse[:, self._size : total, :total] = rows
        self._values[:, :total] += (rows.transpose(1, 2) @ step)[..., 0]
        self._size = total
        return self._values[:, :total].to(self._right.dtype)
