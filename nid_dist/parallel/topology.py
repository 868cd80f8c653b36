"""Who holds which experts: the world as (expert-data-parallel) x (expert-parallel)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topology:
    """Placement of n experts over a world of ranks.

    Args:
        experts: n, the total number of experts.
        world_size: ranks in all.
        rank: this one.
        expert_parallel_size: R, consecutive ranks that share one set of experts.
    """

    experts: int
    world_size: int = 1
    rank: int = 0
    expert_parallel_size: int = 1

    @property
    def local_experts(self) -> int:
        """E = n / R."""
        return self.experts // self.expert_parallel_size

    @property
    def first_expert(self) -> int:
        """Global index of the first expert held by this rank."""
        return self.rank % self.expert_parallel_size * self.local_experts

    def in_words(self) -> str:
        """The placement, said so that nobody asks "per rank or in total?"."""
        return (
            f"{self.experts} experts in total, {self.local_experts} on each of {self.expert_parallel_size} "
            f"expert-parallel rank(s), {self.world_size // self.expert_parallel_size} replica(s)"
        )
