"""The real training step of one rank of any world, on paper's scale: what it holds, what it sends, what it needs."""

import warnings
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nid_dist.config.schema import Phase
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.evaluation.report import Cell, Column, Table
from nid_dist.model import Model
from nid_dist.parallel.exchange.all_to_all import AllToAllExchange
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.rehearsal import Rehearsal, SentMessage, rehearsed_world
from nid_dist.parallel.world import World
from nid_dist.planning.collectives import step_collectives
from nid_dist.planning.cost import fetched_rows, step_messages
from nid_dist.planning.estimate import kinds_of_steps
from nid_dist.planning.run import Run
from nid_dist.samples import Batch, Samples
from nid_dist.training.initialization import make_optimizer
from nid_dist.training.losses import trains_gate
from nid_dist.training.step import TrainingStep
from nid_dist.training.telemetry import StepClock
from nid_dist.training.usage import ExpertUsage

_STEPS = 2  # of each kind: the first makes the optimiser's state


@dataclass(frozen=True)
class RehearsedStep:
    """A step of one kind."""

    mode: str  # of the phase
    is_warmup: bool  # whether codes are dense
    messages: Counter[SentMessage]  # and how often each is sent
    sent: dict[str, int]  # bytes by kind: those of the exchange as a run's counters show them, and all others
    peak: int  # bytes alive at most beyond what lasts


@dataclass(frozen=True)
class Rehearsed:
    """One rank of a world, in bytes."""

    rank: int
    expert_parallel_size: int  # R
    parameters: int  # with buffers
    optimizer: int  # what the optimiser and its engine hold from step to step
    steps: list[RehearsedStep]

    @property
    def peak(self) -> int:
        """All that is alive at most, gradients included."""
        return self.parameters + self.optimizer + max(step.peak for step in self.steps)


def rehearse(run: Run, launch: Launch, *, fake: bool = True) -> Rehearsed:
    """Take every kind of step of a run as one rank of a launch, on stand-ins for its signals.

    Args:
        launch: of `run.world` processes; which of them is rehearsed, and how many a node has.
        fake: whether tensors have shapes only; otherwise there has to be room for them.

    Raises:
        UserError: when the processes do not fit the configuration.
    """
    config, fakes = run.config, FakeTensorMode() if fake else nullcontext()
    with warnings.catch_warnings(), rehearsed_world(config, launch) as (world, engine), fakes, Rehearsal() as rehearsal:
        # ZeRO looks where its flat tensors lie; here they lie nowhere.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        ranks = world.topology.expert_parallel_size
        rehearsal.rows = fetched_rows(run, ranks)
        model = Model(
            config, channels=run.channels, grid_shape=run.grid_shape, signals=run.codebook, exchange=world.exchange
        )
        held = rehearsal.bytes
        engine.prepare([model], make_optimizer(model, config.optimizer))
        usage, clock = ExpertUsage(config.dictionary.experts, world), StepClock(world)
        training = TrainingStep(config, model, engine, world, usage, clock)
        training.begin(0)
        before = rehearsal.bytes
        batches = [_batch(run, model, world) for _ in range(config.optimizer.accumulation)]
        inputs = rehearsal.bytes - before
        steps = []
        for mode, is_warmup, _ in kinds_of_steps(config):
            phase = next(phase for phase in config.coding.phases if phase.mode == mode)
            steps.append(_step(rehearsal, training, model, world, phase, batches, is_warmup=is_warmup))
    return Rehearsed(launch.rank, ranks, held, rehearsal.bytes - held - inputs, steps)


def compare(run: Run, rehearsed: Rehearsed) -> Table:
    """What a rank was counted to send in each kind of step, beside what is planned on paper, by kind of message."""
    columns = [Column("step"), Column("what"), Column("planned", "bytes", ","), Column("sent", "bytes", ",")]
    rows: list[list[Cell]] = []
    for step in rehearsed.steps:
        planned, ranks = Counter[str](), rehearsed.expert_parallel_size
        for kind, size in step_messages(run, ranks, step.mode, step.is_warmup):
            planned[kind] += size
        for collective in step_collectives(run, ranks, step.mode, step.is_warmup):
            planned[collective.kind] += collective.bytes
        mode = f"{step.mode}, while it warms up" if step.is_warmup else step.mode
        rows += [[mode, kind, planned[kind], step.sent.get(kind, 0)] for kind in dict.fromkeys([*planned, *step.sent])]
    return Table(columns, rows)


def _step(
    rehearsal: Rehearsal,
    training: TrainingStep,
    model: Model,
    world: World,
    phase: Phase,
    batches: list[Batch],
    *,
    is_warmup: bool,
) -> RehearsedStep:
    model.dictionary.requires_grad_(phase.mode != "distill")
    if model.gate is not None:
        model.gate.requires_grad_(trains_gate(model, model.config, phase.mode))
    exchange = world.exchange
    expert_group = exchange.group.group_name if isinstance(exchange, AllToAllExchange) else None
    for _ in range(_STEPS):
        rehearsal.messages.clear()
        world.exchange.traffic.reset()
        begin = rehearsal.peak = rehearsal.bytes
        training.run(phase, batches, is_warmup=is_warmup)
    sent = dict(world.exchange.traffic.bytes)
    for message in rehearsal.messages:
        if message.group != expert_group:
            # What ranks agree on are doubles; what comes in another way than gradients leave are parameters.
            reduced = "agreements" if message.dtype == torch.float64 else "gradients"
            kind = reduced if message.call == "all_reduce" else "parameters"
            sent[kind] = sent.get(kind, 0) + message.bytes
    return RehearsedStep(phase.mode, is_warmup, Counter(rehearsal.messages), sent, rehearsal.peak - begin)


def _batch(run: Run, model: Model, world: World) -> Batch:
    """A stand-in for this rank's part of a micro-batch: at least one signal, as a real one."""
    config, section = run.config, run.config.signals
    own = world.local_slice(config.training.batch // config.optimizer.accumulation)
    signals, chosen = max(1, own.stop - own.start), config.training.coordinates
    coords = torch.rand(signals, run.coordinates, run.in_dim) if run.per_signal else coordinate_grid(model.grid_shape)
    samples = Samples(coords, torch.rand(signals, coords.shape[-2], run.channels))
    whole = samples.values if section.gate_input is None else torch.rand(signals, *section.gate_input)
    if not run.per_signal and chosen is not None and chosen < run.grid_points:
        samples = samples.at(torch.arange(chosen))
    return Batch(samples, torch.arange(signals), torch.arange(signals), make_gate_input=lambda: whole)
