"""How the experts, and the ranks that hold them, are used over the last steps: load, dead experts, imbalance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World

_PERCENTILES = (5, 50, 95)


class ExpertUsage:
    """Counts how often each expert was chosen since the last `reset`, over the ranks of a world, or in this process.

    A token is one use of one expert by one signal.
    """

    def __init__(self, experts: int, world: World | None = None) -> None:
        self._world = World(Topology(experts)) if world is None else world
        self._own: Tensor = torch.zeros(experts, dtype=torch.long, device=self._world.device)

    def add(self, code: Code) -> None:
        """Count the non-zero coefficients of a batch's codes."""
        used = (code.values.detach() != 0).long()
        if code.indices is None:
            self._own += used.sum(0)
        else:
            self._own.index_add_(0, code.indices.flatten(), used.flatten())

    def counts(self) -> Int[Tensor, "n"]:
        """Tokens of each expert, of all ranks' signals, on the CPU; to be called on all ranks."""
        return self._world.all_reduce_sum(self._own).cpu()

    def facts(self, counts: Int[Tensor, "n"]) -> dict[str, float]:
        """What matters of the distribution, in one number each.

        Returns:
            `dead_experts` (never chosen), `imbalance` (largest count over mean count), `tokens_pP` (percentiles over
            experts), and with sharded experts `rank_imbalance` (largest over mean tokens of a rank).
        """
        mean = counts.double().mean().item()
        facts = {"dead_experts": float((counts == 0).sum()), "imbalance": counts.max().item() / mean if mean else 0.0}
        for percent in _PERCENTILES:
            facts[f"tokens_p{percent}"] = torch.quantile(counts.double(), percent / 100).item()
        if self._world.topology.expert_parallel_size > 1:
            tokens = self.tokens_by_rank(counts)
            facts["rank_imbalance"] = (tokens.max() / tokens.mean().clamp_min(1e-30)).item()
        return facts

    def tokens_by_rank(self, counts: Int[Tensor, "n"]) -> Float[Tensor, "R"]:
        """Tokens served by the ranks of an expert-parallel group, in the order of their experts, over all groups."""
        return counts.unflatten(0, (self._world.topology.expert_parallel_size, -1)).sum(1).double()

    def reset(self) -> None:
        """Start a new window."""
        self._own.zero_()
