"""Sparse matrices that multiply vectors fast on every device."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
            return SparseRows(row.long(), column.long(), value, shape, None)
        counts = torch.bincount(row, minlength=shape[0])
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        if max(*shape, len(row)) < 2**31:
            # The library below would copy wide indices in every product.
            start, row, column = start.int(), row.int(), column.int()
        with warnings.catch_warnings():
            # PyTorch calls its sparse matrices a beta, once a process.
            warnings.simplefilter("ignore", UserWarning)
            matrix = torch.sparse_csr_tensor(start, column, value, shape, check_invariants=False)
        return SparseRows(row, column, value, shape, matrix)

    @property
    def transposed(self) -> "SparseRows":
        """Its transpose."""
        return SparseRows.of(self.column, self.row, self.value, (self.shape[1], self.shape[0]))

    @property
    def squared(self) -> "SparseRows":
        """The matrix of the entries' squares, where no two are of one place."""
        return SparseRows.ordered(self.row, self.column, self.value.square(), self.shape)

    def __call__(self, vectors: Float[Tensor, "T c"]) -> Float[Tensor, "T r"]:
        """A times each of T vectors."""
        if self.compressed is None:
            shares = vectors[:, self.column] * self.value
            return vectors.new_zeros(len(vectors), self.shape[0]).index_add_(1, self.row, shares)
        if len(vectors) == 1:  # alone, in half the time that a matrix of one column takes
            return (self.compressed @ vectors[0])[None]
        found: Tensor = (self.compressed @ vectors.t()).t()
        return found
