"""Ridge values on supports that grow, without factorising their systems anew (Rubinstein, Zibulevsky and Elad 2008)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nid_dist.coding.solvers.ridge import ROUNDING


class GrowingRefits:
    """The inverse of each signal's Cholesky factor, to which chosen atoms add rows.

    With system = L L^T and M = L^-1 the values are M^T (M right). An atom more is a row more of M, and a refit costs
    k^2 multiplications instead of k^3. Where rounding would decide, a pivot is raised above it: such values still say
    what a signal lacks, but they are to be computed anew in the end.

    Args:
        like: any tensor of as many signals, on their device, in the type of the inner products.
        most: the largest support.
        added: to the diagonals, of all signals or of each.
    """

    def __init__(
        self, like: Float[Tensor, "T *rest"], most: int, added: Float[Tensor, ""] | Float[Tensor, "T"]
    ) -> None:
        self._added = added.double()[..., None]
        self._inverse = like.new_zeros(len(like), most, most, dtype=torch.float64)
        self._values = like.new_zeros(len(like), most, dtype=torch.float64)
        self._largest = like.new_full((len(like),), torch.finfo(torch.float64).tiny, dtype=torch.float64)
        self._rounding, self._size = ROUNDING[like.dtype], 0
        self.rough: Bool[Tensor, "T"] = like.new_zeros(len(like), dtype=torch.bool)
        """Which signals' values are not to be trusted to the last digits."""

    @property
    def inverse(self) -> Float[Tensor, "T k k"]:
        """M of the present supports: M^T M is the inverse of their systems."""
        return self._inverse[:, : self._size, : self._size]

    def add(
        self, across: Float[Tensor, "T s k"], system: Float[Tensor, "T s s"], right: Float[Tensor, "T s"]
    ) -> Float[Tensor, "T total"]:
        """The values of a larger support, in float64.

        Args:
            across: inner products of the atoms that are new with those before them.
            system: with each other.
            right: with the signals.
        """
        across, system, right = across.double(), system.double(), right.double()
        old, total = self._size, self._size + across.shape[1]
        diagonal = system.diagonal(dim1=1, dim2=2)
        torch.maximum(self._largest, diagonal.amax(1), out=self._largest)
        diagonal.add_(self._added)
        known = self._inverse[:, :old, :old]
        factor = across @ known.transpose(1, 2)
        rest = system - factor @ factor.transpose(1, 2)
        right = right[..., None] - across @ self._values[:, :old, None]
        if total == old + 1:
            root = self._root(rest)
            rows, step = torch.cat([factor @ known, -torch.ones_like(root)], 2) / -root, right / root
        else:
            corner = self._corner(rest)
            eye = torch.eye(total - old, dtype=rest.dtype, device=rest.device).expand_as(rest)
            rows = torch.linalg.solve_triangular(corner, torch.cat([-(factor @ known), eye], 2), upper=False)
            step = torch.linalg.solve_triangular(corner, right, upper=False)
        self._inverse[:, old:total, :total] = rows
        self._values[:, :total] += (rows.transpose(1, 2) @ step)[..., 0]
        self._size = total
        return self._values[:, :total]

    def _root(self, rest: Float[Tensor, "T 1 1"]) -> Float[Tensor, "T 1 1"]:
        """Of a single pivot."""
        limit = self._rounding * self._largest
        self.rough |= ~(rest[:, 0, 0] > limit)
        return rest.clamp_min(limit[:, None, None]).sqrt()

    def _corner(self, rest: Float[Tensor, "T s s"]) -> Float[Tensor, "T s s"]:
        """The factor of several."""
        limit = self._rounding * self._largest
        corner, failed = torch.linalg.cholesky_ex(rest)
        rough = (failed > 0) | ~(corner.diagonal(dim1=1, dim2=2).square().amin(1) > limit)
        self.rough |= rough
        if rest.device.type == "cpu" and not rough.any():
            return corner
        # The rounding of s^2 inner products moves eigenvalues by a few of its size. The other factors are the same.
        rest.diagonal(dim1=1, dim2=2).add_((4 * limit * rough)[:, None])
        return torch.linalg.cholesky_ex(rest)[0]
