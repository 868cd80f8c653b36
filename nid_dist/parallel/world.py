"""All the processes of a run, as one of them sees them: who it is, and what all agree on.

Nothing outside `nid_dist/parallel/` knows how that is done: the trainer calls the same methods in one process and in
many. Every method is called by all ranks, in the same order, with values that are all on the CPU or all on the
ranks' devices; so is what it gives.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from nid_dist.parallel.exchange.exchange import Exchange, LocalExchange
from nid_dist.parallel.exchange.topology import Topology

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
_T = TypeVar("_T")


class World:
    """One process alone; `ProcessGroupWorld` is many. The exchange is between those who share the experts."""

    def __init__(
        self, topology: Topology, exchange: Exchange | None = None, device: torch.device | None = None
    ) -> None:
        self.topology = topology
        self.exchange: Exchange = LocalExchange() if exchange is None else exchange
        self.device = torch.device("cpu") if device is None else device

    @property
    def rank(self) -> int:
        """Of this process."""
        return self.topology.rank

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.topology.world_size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def local_slice(self, count: int) -> slice:
        """Which of `count` consecutive items are this rank's: equal parts, the first ranks one more at most."""
        whole, rest = divmod(count, self.size)
        first = self.rank * whole + min(self.rank, rest)
        return slice(first, first + whole + (self.rank < rest))

    def all_reduce_mean(self, values: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """The mean over ranks, equal on all to the last bit; without gradient."""
        return values

    def agree(self, values: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """The mean over ranks of numbers on the CPU, equal on all to the last bit; no rank waits for its device."""
        return self.all_reduce_mean(values)

    def all_reduce_sum(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The sum over ranks; without gradient."""
        return values

    def all_gather(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "ranks *shape"]:
        """Every rank's values, by rank."""
        return values[None]

    def on_rank_zero(self, call: Callable[[], Any]) -> Any:
        """Let the first rank alone do something that gives a JSON value: this value, on all ranks.

        Raises:
            UserError: on all ranks, when it is raised on the first.
        """
        return call()

    def raise_on_all_ranks(self, call: Callable[[], _T]) -> _T:
        """Do something on every rank that may fail on some, without communication in it: what it gave on this rank.

        Raises:
            UserError: on all ranks, that of the first rank that failed.
        """
        return call()

    def replicate(self, tensor: Tensor, *, sharded: bool) -> None:
        """Overwrite a tensor with the first replica's: of all ranks, or, sharded, of those with the same experts."""

    def as_shard(self, tensor: Shaped[Tensor, "E *rest"]) -> Tensor:
        """For checkpoints, an expert tensor as its part of the whole (a DTensor that shares its memory)."""
        return tensor

    def formed(self) -> None:
        """Make what groups of processes are still missing; from here on none is made."""

    def close(self) -> None:
        """Leave the other processes; nothing can be sent afterwards."""
