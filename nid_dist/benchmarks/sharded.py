"""A dictionary whose experts are sharded over processes, and timing on all of them at once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.benchmarks.harness import alternate
from nid_dist.code import Code
from nid_dist.config.schema import Config, Encoding
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.device import resolve_device
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.evaluation.report import machine
from nid_dist.memory import keep_freed_memory
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.exchange.exchange import Exchange, LocalExchange
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.setup import open_world


@dataclass(frozen=True)
class Size:
    """What is computed in a step."""

    experts: int  # n, over all ranks
    support: int  # k
    coordinates: int  # C, shared by the signals
    signals: int  # T, of each rank
    width: int = 256  # h
    channels: int = 3  # d


SHARED_LAYERS = 4


class ShardedCase:
    """One size on one rank: a dictionary of linear heads on a sine trunk, and random codes.

    All ranks share the experts (`world` None: there is one, on the device that `auto` is). Where R divides k, codes are
    balanced: k / R experts of every owner.
    """

    def __init__(self, world: ProcessGroupWorld | None, size: Size) -> None:
        self.size = size
        ranks, rank = (1, 0) if world is None else (world.size, world.rank)
        self.device = resolve_device("auto") if world is None else world.device
        self.exchange: Exchange = LocalExchange()
        if world is not None:
            topology = Topology(size.experts, ranks, rank, ranks)
            self.exchange = AllToAllExchange(topology, world.expert_group, rows=size.signals)
        config = DictionaryConfig(
            experts=size.experts,
            width=size.width,
            shared_layers=SHARED_LAYERS,
            activation="sine",
            trunk_output="activated",
            encoding=Encoding(kind="identity"),
        )
        same, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1 + rank)
        self.dictionary = Dictionary(config, 2, size.channels, same, self.exchange).to(self.device)
        self.coords = (torch.rand(size.coordinates, 2, generator=same) * 2 - 1).to(self.device)
        parts = ranks if size.support % ranks == 0 else 1
        among = size.experts // parts
        chosen = torch.rand(size.signals, parts, among, generator=own).topk(size.support // parts, dim=2).indices
        indices = (chosen + among * torch.arange(parts)[:, None]).flatten(1).to(self.device)
        values = torch.randn(indices.shape, generator=own).to(self.device).requires_grad_()
        bias = torch.zeros(size.signals, size.channels, device=self.device, requires_grad=True)
        self.code = Code(values, bias, indices)
        upstream = torch.randn(size.signals, size.coordinates, size.channels, generator=own)
        self.upstream = upstream.to(self.device)

    def step(self) -> Tensor:
        """Evaluate f and all gradients."""
        return self.backward(self.dictionary(self.code, self.coords))

    def backward(self, values: Float[Tensor, "T C d"]) -> Tensor:
        """All gradients of f, found in any way; gives f back."""
        self.clear()
        values.backward(self.upstream)
        return values.detach()

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in (*self.dictionary.parameters(), self.code.values, self.code.bias):
            parameter.grad = None


@contextmanager
def joined(launch: Launch) -> Iterator[ProcessGroupWorld]:
    """The processes of a launch as one expert-parallel group, which computes as a training does."""
    keep_freed_memory()
    # As many experts as there are processes: a multiple of any R.
    config = Config.model_validate(
        {
            "dictionary": {"experts": launch.size},
            "coding": {"support": 1},
            "parallel": {"engine": "deepspeed", "expert_parallel_size": launch.size},
            "training": {"threads": 1},
        }
    )
    with open_world(config, launch) as world:
        assert isinstance(world, ProcessGroupWorld)
        yield world


def together(world: ProcessGroupWorld, variants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """As `alternate`, on all ranks at once, of which the slowest counts; all have the same names.

    Before each run they wait for each other, which is not timed.
    """

    def wait() -> None:
        world.all_reduce_mean(torch.zeros(1, dtype=torch.float64))

    turns: dict[str, Callable[[], object]] = {}
    for name, run in variants.items():
        turns |= {f"before {name}": wait, name: run}
    seconds = alternate(turns, repeats, device=world.device)
    ranks = world.all_gather(torch.tensor([seconds[name] for name in variants], dtype=torch.float64))
    return dict(zip(variants, ranks.amax(0).tolist(), strict=True))


def summary(processes: int) -> str:
    """A number of processes, said to be too many where it is more than there are cores."""
    cores = machine()["cores"]
    return str(processes) if processes <= cores else f"{processes} (oversubscribed: {cores} cores)"
