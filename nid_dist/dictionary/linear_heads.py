"""Linear heads b_j(x) = W_j phi(x) + c_j, and their merge: sum_j alpha_j b_j is again ONE linear head."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.code import Code
from nid_dist.merging import Way


class LinearHeads(nn.Module):
    """E experts, each one private linear layer on the trunk's h features.

    A row of `rows` is one expert: W_j flattened to d*h floats, then the d floats of c_j, so that merging heads is one
    weighted sum of rows and an exchange sends one vector of r = d * (h + 1) floats per signal. Initial values are
    W ~ N(0, 1/h), c = 0: atoms of unit variance on whitened features. They are merged in the given `way`.
    """

    def __init__(self, experts: int, channels: int, width: int, generator: torch.Generator, way: Way = "auto") -> None:
        super().__init__()
        self.num_experts, self.channels, self.width, self.way = experts, channels, width, way
        rows = torch.zeros(experts, channels * (width + 1))
        rows[:, : channels * width].normal_(0, width**-0.5, generator=generator)
        self.rows = nn.Parameter(rows)

    @property
    def weight(self) -> Float[Tensor, "E d h"]:
        """W of every expert, a view of `rows`."""
        return self.rows[:, : self.channels * self.width].unflatten(1, (self.channels, self.width))

    @property
    def offset(self) -> Float[Tensor, "E d"]:
        """c of every expert, a view of `rows`."""
        return self.rows[:, self.channels * self.width :]

    @property
    def floats_per_coordinate(self) -> int:
        """Floats that evaluating one expert at one coordinate keeps in memory."""
        return self.channels

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What `evaluate` needs of the experts, their number first in each."""
        return self.weight, self.offset

    def merge(self, code: Code) -> Float[Tensor, "T r"]:
        """The merged heads sum_j alpha_j (W_j, c_j) over the experts held here (indices 0 to E - 1)."""
        return code.weighted_sum(self.rows, self.way)

    def evaluate_merged(
        self, features: Float[Tensor, "*shared C h"], merged: Float[Tensor, "T r"]
    ) -> Float[Tensor, "T C d"]:
        """Evaluate heads from `merge`: sum_j alpha_j b_j(x), without biases, at shared coordinates or per signal."""
        signals, channels, width = merged.shape[0], self.channels, self.width
        heads = merged[:, : channels * width].reshape(signals, channels, width)
        offsets = merged[:, channels * width :].reshape(signals, channels)
        if features.dim() == 3:
            return torch.baddbmm(offsets[:, None], features, heads.transpose(1, 2))
        # One product with T*d columns is faster than T small ones.
        flat = torch.addmm(offsets.reshape(-1), features, heads.reshape(signals * channels, width).t())
        return flat.unflatten(1, (signals, channels)).transpose(0, 1)

    def evaluate(self, features: Float[Tensor, "C h"], tensors: Sequence[Tensor]) -> Float[Tensor, "U C d"]:
        """Evaluate U experts, by their parts of `tensors`, at shared coordinates: the atoms b_j(x)."""
        weight, offset = tensors
        flat = torch.addmm(offset.reshape(-1), features, weight.reshape(-1, self.width).t())
        return flat.unflatten(1, offset.shape).transpose(0, 1)

    def evaluate_per_signal(
        self, features: Float[Tensor, "P C h"], tensors: Sequence[Tensor]
    ) -> Float[Tensor, "P C d"]:
        """Evaluate P experts, by their parts of `tensors`, each at its own coordinates: the atoms b_j(x)."""
        weight, offset = tensors
        return torch.baddbmm(offset[:, None], features, weight.transpose(1, 2))
