"""The code of a signal: k signed coefficients and where they stand, and a bias per channel."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Code:
    """Codes (alpha_i, beta_i) of T signals, at most k non-zero coefficients each.

    Args:
        values: signed coefficients; zero where a signal has fewer than k.
        bias: beta, one number per channel.
        indices: which expert each coefficient belongs to, without repeats in a row; None for a dense code,
            whose coefficient j belongs to expert j (k = n; warm-up).
        present: where there is a coefficient at all, be it zero; what only fills a row up has value 0 and index 0.
            None: everywhere.
    """

    values: Float[Tensor, "T k"]
    bias: Float[Tensor, "T d"]
    indices: Int[Tensor, "T k"] | None = None
    present: Bool[Tensor, "T k"] | None = None

    @property
    def signals(self) -> int:
        """T, the number of signals."""
        return self.values.shape[0]

    def dense(self, experts: int) -> Float[Tensor, "T n"]:
        """All n coefficients, zeros included (differentiable in the values).

        Args:
            experts: n.

        Returns:
            alpha as a matrix.
        """
        if self.indices is None:
            return self.values
        return self.values.new_zeros(self.signals, experts).scatter_add(1, self.indices, self.values)

    def weighted_sum(self, rows: Float[Tensor, "n p"]) -> Float[Tensor, "T p"]:
        """sum_j alpha_j row_j of every signal, differentiable in the values and the rows.

        Args:
            rows: one row per expert.

        Returns:
            One row per signal, of the rows' type.
        """
        # Values that an autocast gate made may be of fewer bits than the rows.
        values = self.values.to(rows.dtype)
        if self.indices is None:
            return values @ rows
        if product_is_cheaper(values.shape[1], rows.shape[0]):
            return self.dense(rows.shape[0]).to(rows.dtype) @ rows
        return F.embedding_bag(self.indices, rows, per_sample_weights=values, mode="sum")

    def detach(self) -> "Code":
        """The same code without gradient."""
        return Code(self.values.detach(), self.bias.detach(), self.indices, self.present)

    def rows(self, selection: slice) -> "Code":
        """The codes of some of the signals."""
        indices, present = (None if x is None else x[selection] for x in (self.indices, self.present))
        return Code(self.values[selection], self.bias[selection], indices, present)

    @staticmethod
    def concatenate(codes: "list[Code]") -> "Code":
        """Stack codes of equal k (or all dense), without fillers, over signals.

        Args:
            codes: at least one.

        Returns:
            The code of all their signals, in order.

        Raises:
            ValueError: for a mixture of sparse and dense codes.
        """
        indices = [code.indices for code in codes if code.indices is not None]
        if len(indices) not in (0, len(codes)):
            raise ValueError("sparse and dense codes cannot be stacked")
        return Code(
            torch.cat([code.values for code in codes]),
            torch.cat([code.bias for code in codes]),
            torch.cat(indices) if indices else None,
        )


def product_is_cheaper(support: int, experts: int) -> bool:
    """Whether a weighted sum of rows is a product with the dense code, or a gather.

    Args:
        support: k.
        experts: E, rows in all.

    Returns:
        True for the product.
    """
    # A product with the dense [T, n] code costs T*n*p fused operations, the gather T*k*p uncached reads and, backward,
    # as many scattered writes: measured on CPU, they break even between n = 10k and n = 16k.
    return experts <= 12 * support
