"""Many processes: groups for expert and data parallelism, and what all agree on, over `torch.distributed`.

What all agree on goes from where it is: numbers of the CPU never touch a GPU, so that
nobody waits for one.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float64, Shaped
from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.parallel.engines.deepspeed_comm import adopt_process_group, leave_process_group
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.collectives import all_gather as gathered
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.launch import watching
from nid_dist.parallel.world import World

_HOST_BACKEND = "gloo"
_T = TypeVar("_T")


class ProcessGroupWorld(World):
    """The processes of an initialised default process group.

    Args:
        library: whose groups and all-to-all are used: DeepSpeed's, or (where it is not installed) fairscale's.
        rows: signals of a rank at most, where that is known (see `AllToAllExchange`).

    Attributes:
        expert_group: the R ranks that share one set of experts, in the order of the experts they hold.
        replica_group: the ranks that hold the same experts.
    """

    def __init__(
        self,
        topology: Topology,
        library: Literal["deepspeed", "fairscale"] = "deepspeed",
        rows: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.library = library
        make = _deepspeed_groups if library == "deepspeed" else _own_groups
        self.expert_group, self.replica_group = make(topology)
        shared = topology.expert_parallel_size > 1
        super().__init__(topology, None, device)
        on_cpu = self.device.type == "cpu"
        if shared:
            self.exchange = AllToAllExchange(topology, self.expert_group, library, rows, overlap=not on_cpu)
        # gloo's default group is that of the CPUs already.
        self._host_group = None if on_cpu else dist.new_group(backend=_HOST_BACKEND)

    def all_reduce_mean(self, values: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """The mean over ranks, equal on all to the last bit; without gradient."""
        return self.all_reduce_sum(values) / self.size

    def all_reduce_sum(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The sum over ranks; without gradient."""
        summed = values.detach().clone()
        dist.all_reduce(summed, group=self._group_at(summed))
        return summed

    def all_gather(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "ranks *shape"]:
        """Every rank's values, by rank."""
        return gathered(values[None], self._group_at(values))

    def on_rank_zero(self, call: Callable[[], Any]) -> Any:
        """Let the first rank alone do something; its result, or its error, is everyone's."""
        answer: dict[str, Any] = {}
        if self.first:
            try:
                answer = {"value": call()}
            except UserError as error:
                answer = {"error": vars(error)}
        answer = self._broadcast(answer)
        if "error" in answer:
            raise UserError(**answer["error"])
        return answer["value"]

    def raise_on_all_ranks(self, call: Callable[[], _T]) -> _T:
        """Do something on every rank; the error of one is everyone's."""
        error: UserError | None = None
        try:
            result = call()
        except UserError as raised:
            error = raised
        failed = self.all_gather(torch.tensor(error is not None)).nonzero()[:, 0]
        if len(failed):
            own = None if error is None else vars(error)
            raise UserError(**self._broadcast(own, int(failed[0])))
        return result

    def replicate(self, tensor: Tensor, *, sharded: bool) -> None:
        """Overwrite a tensor with the first replica's."""
        group = self.replica_group if sharded else None
        source = self.rank % self.topology.expert_parallel_size if sharded else 0
        contiguous = tensor.detach().contiguous()
        dist.broadcast(contiguous, source, group=group)
        tensor.detach().copy_(contiguous)

    def as_shard(self, tensor: Shaped[Tensor, "E *rest"]) -> Tensor:
        """For checkpoints, an expert tensor as its part of the whole (a DTensor that shares its memory)."""
        from torch.distributed.tensor import DTensor, Replicate, Shard

        return DTensor.from_local(tensor.detach(), self._mesh, [Replicate(), Shard(0)], run_check=False)

    def formed(self) -> None:
        """The last group is that of checkpoints."""
        _ = self._mesh
        if self.device.type == "cpu":
            watching.rest()

    def close(self) -> None:
        """Leave the other processes: without this a gloo run now and then aborts at exit."""
        if self._host_group is not None:
            dist.barrier(self._host_group)  # nobody is missed before all are done
        watching.stop()
        if self.library == "deepspeed":
            leave_process_group()
        else:
            dist.destroy_process_group()

    def _broadcast(self, value: Any, source: int = 0) -> Any:
        """A JSON value of one rank, on all; nothing is pickled."""
        text = json.dumps(value).encode() if self.rank == source else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, source, group=self._host_group)
        data = torch.frombuffer(bytearray(text or int(length)), dtype=torch.uint8)
        dist.broadcast(data, source, group=self._host_group)
        return json.loads(bytes(data.tolist()))

    def _group_at(self, values: Tensor) -> Any:
        """All ranks, as they reach each other from where some values are; None: the default group."""
        return self._host_group if values.device.type == "cpu" else None

    @functools.cached_property
    def _mesh(self) -> Any:
        from torch.distributed.device_mesh import init_device_mesh

        ranks = self.topology.expert_parallel_size
        shape = (self.size // ranks, ranks)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=("replica", "expert"))


def _deepspeed_groups(topology: Topology) -> tuple[Any, Any]:
    adopt_process_group()
    from deepspeed.utils import groups

    name = f"ep_size_{topology.expert_parallel_size}"
    if name not in groups._get_expert_parallel_group_dict():
        groups._create_expert_and_data_parallel(topology.expert_parallel_size)
    return groups._get_expert_parallel_group(name), groups._get_expert_data_parallel_group(name)


def _own_groups(topology: Topology) -> tuple[Any, Any]:
    # Every rank makes all groups, in the same order, and keeps those it belongs to.
    world, size, rank = topology.world_size, topology.expert_parallel_size, topology.rank
    expert_groups = [dist.new_group(list(range(first, first + size))) for first in range(0, world, size)]
    replica_groups = [dist.new_group(list(range(first, world, size))) for first in range(size)]
    return expert_groups[rank // size], replica_groups[rank % size]
