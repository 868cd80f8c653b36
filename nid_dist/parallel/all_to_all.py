"""The exchange across ranks: DeepSpeed MoE's differentiable all-to-all, dropless, one partial sum back per signal.

An owner receives the part of every code that concerns its experts, sums over these experts, and returns ONE partial
sum per signal: d * (h + 1) numbers for merged heads, C * d for evaluated experts, whatever k is. The all-to-all has
equal splits, so rows are padded: signals to the largest batch of the group, coefficients to the longest part of a code.
Nothing is ever dropped for capacity.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nid_dist.coding.code import Code
from nid_dist.parallel.topology import Topology


class AllToAllExchange:
    """Experts are sharded over the R ranks of an expert-parallel group.

    Args:
        topology: who holds which experts.
        group: the expert-parallel group's process group, R ranks in the order of the experts they hold.
    """

    def __init__(self, topology: Topology, group: Any) -> None:
        self.topology, self.group = topology, group
        self.ranks = topology.expert_parallel_size
        self.first_expert = topology.first_expert
        self.bytes_sent = 0
        self._rows = (0, 0)  # signals here, and in the largest batch of the group, since the last dispatch

    def dispatch(self, code: Code) -> Code:
        """The part of the group's codes that concerns the experts held here.

        Args:
            code: of this rank's T signals; sparse or dense.

        Returns:
            Codes of the group's signals, stacked by rank and padded with zero coefficients; biases are zero, as they
            stay at home.
        """
        ranks, local = self.topology.expert_parallel_size, self.topology.local_experts
        if code.indices is None:
            parts, where = code.values.unflatten(1, (ranks, local)).transpose(0, 1), None
            longest, rows = local, self._largest(code.signals, 0)[0]
        else:
            owner = torch.div(code.indices, local, rounding_mode="floor")
            parts, where, longest, rows = self._split(code, owner)
        self._rows = (code.signals, rows)
        values = self._send(_pad_rows(parts, rows)).flatten(0, 1)
        indices = None
        if where is not None:
            indices = self._send(_pad_rows(where, rows)).flatten(0, 1).long()
        assert values.shape[1] == longest
        return Code(values, values.new_zeros(len(values), code.bias.shape[1]), indices)

    def share(self, rows: Float[Tensor, "T *rest"]) -> Float[Tensor, "S *rest"]:
        """What every rank of the group holds for its own signals, stacked and padded as `dispatch` does.

        Args:
            rows: one row per signal of this rank.

        Returns:
            The rows of all of the group's signals.
        """
        padded = _pad_rows(rows[None], self._rows[1])
        copies = padded.expand(self.topology.expert_parallel_size, *padded.shape[1:])
        return self._send(copies).flatten(0, 1)

    def combine(self, partial: Float[Tensor, "S *rest"]) -> Float[Tensor, "T *rest"]:
        """For this rank's signals, the sum over the group of the partial sums of dispatched codes.

        Args:
            partial: one row per signal of the group, as `dispatch` stacked them.

        Returns:
            The complete sums of this rank's signals.
        """
        signals, rows = self._rows
        returned = self._send(partial.unflatten(0, (self.topology.expert_parallel_size, rows)))
        return returned.sum(0)[:signals]

    def _split(self, code: Code, owner: Int[Tensor, "T k"]) -> tuple[Tensor, Tensor, int, int]:
        """Sort every code by owner and lay the parts side by side, [R, T, longest]."""
        assert code.indices is not None
        ranks, local = self.topology.expert_parallel_size, self.topology.local_experts
        order = owner.argsort(dim=1, stable=True)
        sorted_owner = owner.gather(1, order)
        counts = torch.zeros(code.signals, ranks, dtype=torch.long, device=owner.device)
        counts.scatter_add_(1, owner, torch.ones_like(owner))
        begins = counts.cumsum(1) - counts
        slot = torch.arange(owner.shape[1], device=owner.device)[None] - begins.gather(1, sorted_owner)
        longest = int(counts.max()) if counts.numel() else 1
        rows, longest = self._largest(code.signals, max(1, longest))
        signal = torch.arange(code.signals, device=owner.device)[:, None].expand_as(owner)
        place = (sorted_owner, signal, slot)
        values = code.values.new_zeros(ranks, code.signals, longest).index_put(place, code.values.gather(1, order))
        indices = torch.zeros(ranks, code.signals, longest, dtype=torch.int32, device=owner.device)
        indices[place] = (code.indices.gather(1, order) - sorted_owner * local).int()
        return values, indices, longest, rows

    def _largest(self, signals: int, longest: int) -> tuple[int, int]:
        """The group's largest batch and longest part of a code: what all pad to."""
        sizes = torch.tensor([signals, longest])
        dist.all_reduce(sizes, op=dist.ReduceOp.MAX, group=self.group)
        return int(sizes[0]), int(sizes[1])

    def _send(self, parts: Shaped[Tensor, "R *rest"]) -> Shaped[Tensor, "R *rest"]:
        """Part r goes to rank r; what rank r sent comes back as part r. Differentiable."""
        from deepspeed.moe.sharded_moe import _AllToAll

        ranks = self.topology.expert_parallel_size
        # With another first axis than R the all-to-all returns garbage without an error.
        if parts.shape[0] != ranks:
            raise ValueError(f"all-to-all of {parts.shape[0]} parts among {ranks} ranks")
        foreign = parts.numel() * parts.element_size() * (ranks - 1) // ranks
        self.bytes_sent += foreign
        received: Tensor = _AllToAll.apply(self.group, parts.contiguous())
        if received.requires_grad:
            received.register_hook(lambda _: self._count(foreign))
        return received

    def _count(self, foreign: int) -> None:
        self.bytes_sent += foreign


def _pad_rows(parts: Shaped[Tensor, "R T *rest"], rows: int) -> Shaped[Tensor, "R S *rest"]:
    missing = rows - parts.shape[1]
    if missing == 0:
        return parts
    return torch.cat([parts, parts.new_zeros(parts.shape[0], missing, *parts.shape[2:])], 1)
