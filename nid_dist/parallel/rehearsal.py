"""One rank of a world that is not there: its messages are counted, and answered as if all ranks had sent what it did.

PyTorch's fake process group carries nothing, but every call of a real step goes through it; fake tensors have shapes,
but neither memory nor values. With both, one process takes the step of any rank of any world, of any size.
"""

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nid_dist.config.schema import Config
from nid_dist.parallel.engines.engine import Engine, LocalEngine
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.setup import engine_name, make_engine, make_topology
from nid_dist.parallel.world import World

_T = TypeVar("_T")
_MAKERS = ("alltoall_base", "allgather_base", "allreduce", "broadcast", "reduce_scatter_base")
_CALLS = dict(zip(_MAKERS, ("all_to_all", "all_gather", "all_reduce", "broadcast", "reduce_scatter"), strict=True))


@dataclass(frozen=True)
class SentMessage:
    """One collective that this rank took part in."""

    call: str  # all_to_all, all_gather, all_reduce, broadcast or reduce_scatter
    group: str  # the process group's name
    ranks: int  # in it
    dtype: torch.dtype
    bytes: int
    """That leave this rank: to all others in an all-to-all or a gathering; else the size of the tensor, which a
    reduction sends about twice around its ring."""


class Rehearsal(TorchDispatchMode):
    """Counts messages and memory of all that is computed while it is on.

    Attributes:
        rows: what a number that the step asks its data for is taken to be, where they are fake: how many rows of
            experts another rank wants.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[SentMessage] = []
        self.bytes = self.peak = 0
        """Of the tensors that are alive, now and at most."""
        self.rows, self._alive = 1, dict[int, int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let it happen, and look at it."""
        first = args[0] if args else None
        if isinstance(first, torch._subclasses.FakeTensor):
            # What is asked of values that are not there: no exception is found, masks choose all, factors change
            # nothing.
            if func is torch.ops.aten._local_scalar_dense.default:
                kind = first.dtype
                return False if kind == torch.bool else 1.0 if kind.is_floating_point else self.rows
            if func is torch.ops.aten.nonzero.default:
                return first.new_empty((0, first.dim()), dtype=torch.long)
            if func is torch.ops.aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool:
                return first.flatten(0, args[1][0].dim() - 1)
        found = func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            self._answer(func.__name__, args)
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        return found

    def _answer(self, name: str, args: Any) -> None:
        """Count a message, and put into its result what would be there if all ranks had sent the same."""
        call = next((_CALLS[part] for part in _MAKERS if part in name), None)
        if call is None:
            return  # a barrier
        group = next(filter(None, (_group(each) for each in args)))
        first: Tensor = args[0] if isinstance(args[0], Tensor) else args[0][0]
        ranks, sent = group.size(), first
        if call == "all_to_all":
            received, sent = first, args[1]
            if len(sent):
                received.copy_(sent[torch.arange(len(received)) % len(sent)])
        elif call in ("all_gather", "reduce_scatter"):
            sent = args[1]
        elif call == "all_reduce" and first.is_floating_point():
            first.mul_(ranks)
        size = sent.numel() * sent.element_size()
        leaves = {"all_to_all": size * (ranks - 1) // ranks, "all_gather": size * (ranks - 1)}
        self.messages.append(SentMessage(call, group.group_name, ranks, sent.dtype, leaves.get(call, size)))

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self._alive:
            return
        self._alive[place] = size
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

        def gone() -> None:
            self.bytes -= self._alive.pop(place, 0)

        weakref.finalize(storage, gone).atexit = False


class _RehearsedWorld(ProcessGroupWorld):
    """A rank whose others have what it has."""

    def on_rank_zero(self, call: Callable[[], Any]) -> Any:
        """Do it here."""
        return call()

    def raise_on_all_ranks(self, call: Callable[[], _T]) -> _T:
        """Nobody else can fail."""
        return call()

    def replicate(self, tensor: Shaped[Tensor, "*shape"], *, sharded: bool) -> None:
        """All have it."""


@contextmanager
def rehearsed_world(config: Config, launch: Launch) -> Iterator[tuple[World, Engine]]:
    """The world and the engine that a rank of a launch would have, without any other process.

    Raises:
        UserError: when the processes do not fit the configuration.
    """
    from torch.testing._internal.distributed.fake_pg import FakeStore

    topology, name = make_topology(config, launch), engine_name(config, launch)
    if name == "local":
        yield World(topology), LocalEngine()
        return
    dist.init_process_group("fake", store=FakeStore(), rank=launch.rank, world_size=launch.size)
    try:
        rows = math.ceil(config.training.batch // config.optimizer.accumulation / launch.size)
        world = _RehearsedWorld(topology, "fairscale" if name == "fairscale" else "deepspeed", rows)
        yield world, make_engine(config, launch, world)
    finally:
        world.close()


def _group(argument: object) -> Any:
    """The process group that an argument of an operator is, if it is one."""
    if isinstance(argument, torch.ScriptObject):
        try:
            return dist.ProcessGroup.unbox(argument)
        except RuntimeError:
            return None
    return None
