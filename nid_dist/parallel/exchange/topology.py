"""Who holds which experts: the world as (expert-data-parallel) x (expert-parallel)."""

import math
from dataclasses import dataclass
from typing import Any

from nid_dist.errors import UserError


@dataclass(frozen=True)
class Topology:
    """Placement of n experts over a world of ranks.

    Raises:
        UserError: when R does not divide n, or the number of ranks.
    """

    experts: int  # n, the total number of experts
    world_size: int = 1  # ranks in all
    rank: int = 0  # this one
    expert_parallel_size: int = 1  # R, consecutive ranks that share one set of experts

    def __post_init__(self) -> None:
        for where, found in (("dictionary.experts", self.experts), ("the number of processes", self.world_size)):
            if found % self.expert_parallel_size:
                raise UserError(
                    where,
                    found=str(found),
                    expected=f"a multiple of parallel.expert_parallel_size, {self.expert_parallel_size}",
                    hint="change one of the two",
                )

    @property
    def local_experts(self) -> int:
        """E = n / R."""
        return self.experts // self.expert_parallel_size

    @property
    def first_expert(self) -> int:
        """Global index of the first expert held by this rank."""
        return self.rank % self.expert_parallel_size * self.local_experts

    def as_table(self) -> dict[str, Any]:
        """The placement of all experts, to be stored: for every rank, its first expert and the one after its last."""
        local, size = self.local_experts, self.expert_parallel_size
        ranks = [
            {"rank": rank, "experts": [rank % size * local, (rank % size + 1) * local], "replica": rank // size}
            for rank in range(self.world_size)
        ]
        return {"experts": self.experts, "expert_parallel_size": size, "world_size": self.world_size, "ranks": ranks}

    def summary(self) -> str:
        """The placement, said so that nobody asks "per rank or in total?"."""
        return (
            f"{self.experts} experts in total, {self.local_experts} on each of {self.expert_parallel_size} "
            f"expert-parallel rank(s), {self.world_size // self.expert_parallel_size} replica(s)"
        )


def default_expert_parallel_size(experts: int, local_size: int, world: int) -> int:
    """R where the configuration leaves it open: as many ranks as share the experts evenly without leaving their node.

    Every node has `local_size` ranks. R is the largest divisor of n that divides these, so that no group lies across
    two nodes, and all ranks.
    """
    return math.gcd(experts, local_size, world)
