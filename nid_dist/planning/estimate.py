"""How long a step takes, on paper, and with which R it is fastest: the alpha-beta model.

Time is operations / rate (and, where it is known, what the optimiser reads and writes / the memory's rate) + the sum
over messages of (latency + bytes / bandwidth); nothing overlaps. In the exchange a rank sends to all others of its
group at once, over the link that leads to each. What is averaged goes twice around a ring, what comes back from its
owners once; the slowest link counts, or, as far as latency counts, a tree, up and down.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nid_dist.config.schema import Config
from nid_dist.planning.collectives import step_collectives
from nid_dist.planning.cost import FLOAT_BYTES, step_messages
from nid_dist.planning.footprint import Memory, memory
from nid_dist.planning.run import Run
from nid_dist.planning.workload import step_flops, trained


@dataclass(frozen=True)
class Machine:
    """Where it runs."""

    per_node: int  # ranks of a node
    within: float  # bandwidth from a rank to others of its node, bytes/s
    between: float  # bandwidth from a rank to other nodes, bytes/s
    latency: float  # of a message, s
    rate: float  # operations per second that a rank attains
    memory: float  # of a rank, bytes
    copies: float = math.inf  # bytes per second that a rank reads and writes in its memory

    def fits(self, needed: Memory) -> bool:
        """Whether a rank has the memory."""
        return needed.total <= self.memory


@dataclass(frozen=True)
class Step:
    """A step of one kind, as the rank sees it that sends most to other nodes."""

    mode: str  # of the phase
    is_warmup: bool  # whether codes are dense
    share: float  # of the run's steps
    sent: dict[str, tuple[int, int]]  # bytes within the node and to other nodes, by kind of message
    compute: float  # seconds of operations
    messages: float  # seconds of messages

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.compute + self.messages


@dataclass(frozen=True)
class Estimate:
    """One way to spread the experts."""

    expert_parallel_size: int  # R
    experts: int  # E, on each rank
    memory: Memory  # of a rank
    steps: list[Step]  # one of each kind that the run has

    @property
    def seconds(self) -> float:
        """Of a step, on average over the run."""
        return math.fsum(step.share * step.seconds for step in self.steps)


def sensible_sizes(experts: int, world: int, per_node: int) -> Iterator[int]:
    """Every R that divides experts and ranks, with groups that lie within a node or are whole nodes."""
    common = math.gcd(experts, world)
    for size in range(1, common + 1):
        if common % size == 0 and (per_node % size == 0 or size % per_node == 0):
            yield size


def kinds_of_steps(config: Config) -> list[tuple[str, bool, float]]:
    """The kinds of steps that a run has: mode, whether codes are dense, and the share of the steps."""
    coding = config.coding
    total = math.fsum(phase.share for phase in coding.phases)
    shares = dict.fromkeys((phase.mode for phase in coding.phases), 0.0)
    for phase in coding.phases:
        shares[phase.mode] += phase.share / total
    is_warmup = min(coding.warmup_steps / config.training.steps, shares.get("gate", 0.0))
    first = [("gate", True, is_warmup)] if is_warmup else []
    return first + [(mode, False, share - is_warmup * (mode == "gate")) for mode, share in shares.items()]


def estimate(run: Run, machine: Machine, expert_parallel_size: int) -> Estimate:
    """All figures for one R, which divides the experts and the ranks."""
    ranks, kinds = expert_parallel_size, kinds_of_steps(run.config)
    needed = memory(run, ranks, [(mode, is_warmup) for mode, is_warmup, _ in kinds])
    steps = [_step(run, machine, ranks, mode, is_warmup, share) for mode, is_warmup, share in kinds]
    return Estimate(ranks, run.config.dictionary.experts // ranks, needed, steps)


def fastest(estimates: list[Estimate], machine: Machine) -> Estimate | None:
    """The estimate with the shortest step of those that fit in memory, the smallest R of equals; None: none fits."""
    fitting = [each for each in estimates if machine.fits(each.memory)]
    return min(fitting, key=lambda each: (each.seconds, each.expert_parallel_size), default=None)


def update_bytes(run: Run, expert_parallel_size: int, mode: str) -> int:
    """What Adam reads and writes on a rank: parameters, gradients and two moments; parameters and moments."""
    dictionary, gate = trained(run.config, mode)
    local = run.config.dictionary.experts // expert_parallel_size * run.expert_parameters
    return 7 * FLOAT_BYTES * ((local + run.trunk_parameters) * dictionary + run.gate.parameters * gate)


def peers_in_node(expert_parallel_size: int, world: int, per_node: int) -> int:
    """How many of the R - 1 others of its group are in a rank's own node, at least."""
    size = expert_parallel_size
    groups, nodes = ([rank // each for rank in range(world)] for each in (size, per_node))
    shared: dict[tuple[int, int], int] = {}
    for place in zip(groups, nodes, strict=True):
        shared[place] = shared.get(place, 0) + 1
    return min(shared.values()) - 1


def _step(run: Run, machine: Machine, ranks: int, mode: str, is_warmup: bool, share: float) -> Step:
    sent: dict[str, tuple[int, int]] = {}
    seconds = 0.0

    def count(kind: str, rounds: int, inside: int, outside: int) -> None:
        nonlocal seconds
        before = sent.get(kind, (0, 0))
        sent[kind] = before[0] + inside, before[1] + outside
        seconds += rounds * machine.latency + inside / machine.within + outside / machine.between

    near = peers_in_node(ranks, run.world, machine.per_node)
    for kind, size in step_messages(run, ranks, mode, is_warmup):
        inside = size * near // (ranks - 1)
        count(kind, 1, inside, size - inside)
    spread = run.world > machine.per_node  # then every ring passes from node to node, that of replicas too
    for kind, call, group, size in step_collectives(run, ranks, mode, is_warmup):
        there_and_back = 1 + (call == "all_reduce")
        passed = size * 2 * (group - 1) // group if call == "all_reduce" else size
        count(kind, there_and_back * math.ceil(math.log2(group)), passed * (not spread), passed * spread)
    compute = step_flops(run, ranks, mode, is_warmup) / machine.rate + update_bytes(run, ranks, mode) / machine.copies
    return Step(mode, is_warmup, share, sent, compute, seconds)
