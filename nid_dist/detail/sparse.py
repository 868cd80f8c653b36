"""Splines as they are measured at scattered coordinates: a sparse matrix, and its transpose."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.detail.splines import SplineGrid


class SampledSplines:
    """S of grids at coordinates: S[i, g] = B_g(x_i), or its derivatives along an axis.

    Args:
        coords: [C, m] in [-1, 1]^m, for all grids alike.
        dtype: of the matrix; None: as the coordinates are.
        along: for each of several groups of rows an axis to differentiate along, None for values: rows are the groups,
            one after another, of C each.
    """

    def __init__(
        self,
        grids: tuple[SplineGrid, ...],
        coords: Float[Tensor, "C m"],
        dtype: torch.dtype | None = None,
        along: tuple[int | None, ...] = (None,),
    ) -> None:
        rows, columns, values = [], [], []
        for group, axis in enumerate(along):
            first = 0
            for grid in grids:
                indices, weights = grid.corners(coords, axis)
                row = torch.arange(len(coords), device=coords.device) + group * len(coords)
                rows.append(row[:, None].expand_as(indices).flatten())
                columns.append((indices + first).flatten())
                values.append(weights.flatten().to(dtype or coords.dtype))
                first += grid.size
        self.shape = (len(along) * len(coords), sum(grid.size for grid in grids))
        row, column, value = torch.cat(rows), torch.cat(columns), torch.cat(values)
        self.matrix = SparseRows.of(row, column, value, self.shape)
        self.transposed = SparseRows.of(column, row, value, (self.shape[1], self.shape[0]))

    def __call__(self, coefficients: Float[Tensor, "T G"]) -> Float[Tensor, "T N"]:
        """S c."""
        return self.matrix(coefficients)

    def adjoint(self, measured: Float[Tensor, "T N"]) -> Float[Tensor, "T G"]:
        """S^T y."""
        return self.transposed(measured)

    def squares(self, weights: Float[Tensor, "T N"]) -> Float[Tensor, "T G"]:
        """The diagonal of S^T diag(w) S."""
        return self.transposed.squared()(weights)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse matrix A, to be multiplied with vectors: by PyTorch's on the CPU, which is many times as fast there."""

    row: Int[Tensor, "e"]  # ascending
    column: Int[Tensor, "e"]
    value: Float[Tensor, "e"]
    shape: tuple[int, int]
    compressed: Tensor | None  # the same as a compressed matrix, on the CPU

    @staticmethod
    def of(
        row: Int[Tensor, "e"], column: Int[Tensor, "e"], value: Float[Tensor, "e"], shape: tuple[int, int]
    ) -> "SparseRows":
        """The matrix with these entries, in any order; those of one place are added."""
        order = row.argsort(stable=True)
        return SparseRows.ordered(row[order], column[order], value[order], shape)

    @staticmethod
    def ordered(
        row: Int[Tensor, "e"], column: Int[Tensor, "e"], value: Float[Tensor, "e"], shape: tuple[int, int]
    ) -> "SparseRows":
        """The same of entries whose rows ascend already."""
        if row.device.type != "cpu":
            return SparseRows(row, column, value, shape, None)
        counts = torch.bincount(row, minlength=shape[0])
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        with warnings.catch_warnings():
            # PyTorch calls its sparse matrices a beta, once a process.
            warnings.simplefilter("ignore", UserWarning)
            matrix = torch.sparse_csr_tensor(start, column, value, shape, check_invariants=False)
        return SparseRows(row, column, value, shape, matrix)

    def squared(self) -> "SparseRows":
        """The matrix of the entries' squares."""
        return SparseRows.of(self.row, self.column, self.value.square(), self.shape)

    def __call__(self, vectors: Float[Tensor, "T c"]) -> Float[Tensor, "T r"]:
        """A times each of T vectors."""
        if self.compressed is not None:
            found: Tensor = (self.compressed @ vectors.t()).t()
            return found
        shares = vectors[:, self.column] * self.value
        return vectors.new_zeros(len(vectors), self.shape[0]).index_add_(1, self.row, shares)
