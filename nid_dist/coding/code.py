"""The code of a signal: k signed coefficients and where they stand, and a bias per channel."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Code:
    """Codes (alpha_i, beta_i) of T signals, at most k non-zero coefficients each.

    Args:
        values: signed coefficients; zero where a signal has fewer than k.
        bias: beta, one number per channel.
        indices: which expert each coefficient belongs to, without repeats in a row; None for a dense code,
            whose coefficient j belongs to expert j (k = n; warm-up).
    """

    values: Float[Tensor, "T k"]
    bias: Float[Tensor, "T d"]
    indices: Int[Tensor, "T k"] | None = None

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

    def detach(self) -> "Code":
        """The same code without gradient."""
        return Code(self.values.detach(), self.bias.detach(), self.indices)

    def rows(self, selection: slice) -> "Code":
        """The codes of some of the signals."""
        return Code(
            self.values[selection], self.bias[selection], None if self.indices is None else self.indices[selection]
        )

    @staticmethod
    def concatenate(codes: "list[Code]") -> "Code":
        """Stack codes of equal k (or all dense) over signals."""
        first = codes[0].indices
        return Code(
            torch.cat([c.values for c in codes]),
            torch.cat([c.bias for c in codes]),
            None if first is None else torch.cat([c.indices for c in codes if c.indices is not None]),
        )
