"""The training loop: phases, steps, evaluation, checkpoints, and a clean stop."""

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from nid_dist.checkpoints import checkpoint
from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.config.schema import Config
from nid_dist.errors import UserError
from nid_dist.model import Model
from nid_dist.parallel.engines.engine import Engine
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.precision import products_in
from nid_dist.samples import Batch
from nid_dist.tasks.base import Task
from nid_dist.training.divergence import divergence
from nid_dist.training.evaluation import effective_rank, pictures
from nid_dist.training.initialization import initialise, is_sharded, make_optimizer
from nid_dist.training.losses import LOSSES, average, prepare, trains_gate
from nid_dist.training.monitor import Monitor
from nid_dist.training.prior import update_prior
from nid_dist.training.schedule import Position, in_phase, position, rate_factor
from nid_dist.training.stopping import STOP_SIGNALS, StopRequest
from nid_dist.training.telemetry import StepClock
from nid_dist.training.usage import ExpertUsage


@dataclass
class Progress:
    """Where the training is; everything besides tensors that a checkpoint must hold."""

    step: int = 0
    phase: int = -1
    phase_start: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a model on a task, together with all processes of a world; in this one alone by default."""

    monitor: Monitor

    def __init__(
        self, config: Config, task: Task, model: Model, engine: Engine, folder: RunFolder, world: World | None = None
    ) -> None:
        self.config, self.task, self.model, self.engine, self.folder = config, task, model, engine, folder
        self.world = World(Topology(model.dictionary.num_experts)) if world is None else world
        self.progress = Progress()
        self.seconds_before = 0.0
        """Spent on training before this process."""
        self._unclocked = 0.0  # seconds since the last step's message to all ranks
        self.usage, self.clock = ExpertUsage(model.dictionary.num_experts, self.world), StepClock(self.world)
        self.stopped_by: str | None = None
        """The signal that stopped the last `run` early, or None."""
        self.figures: dict[str, float] = {}
        """The last evaluation's at the end of `run`; none after one that was stopped, or had finished before."""
        engine.prepare([model], make_optimizer(model, config.optimizer))

    def initialise(self) -> None:
        """Data-dependent initial values; not for a resumed run."""
        initialise(self.model, self.task, self.world)
        self._synchronise_gate(analysis=True)
        self.engine.refresh()

    def resume(self, source: Path) -> Path:
        """Continue from a checkpoint, or from the newest good one of a folder; damaged ones are passed over."""
        state = self.engine.state()
        path, facts = checkpoint.load_newest(
            source, self._tensors(state), warn=lambda text: warnings.warn(text, stacklevel=2), world=self.world
        )
        self.engine.refresh()
        self.engine.restore(state)
        self.progress = Progress(**facts["progress"])
        self.seconds_before = self.progress.seconds
        return path

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.progress.step

    @property
    def finished(self) -> bool:
        """Whether all steps (or all of `training.max_seconds`) are done."""
        return self._done() >= 1.0

    def run(self, monitor: Monitor) -> None:
        """Train until the end, or until asked to stop.

        Raises:
            UserError: when the loss is not a number.
        """
        training, self.monitor, self.stopped_by, self.figures = self.config.training, monitor, None, {}
        if self.finished:
            return
        self.clock.reset()
        with StopRequest(monitor.message) as stop:
            while not self.finished and self.stopped_by is None:
                with self.clock.step():
                    facts = self._step(stop)
                if self.step % self.config.logging.log_every == 0 or self.finished:
                    self._log(facts)
                if training.checkpoint_every and self.step % training.checkpoint_every == 0 and not self.finished:
                    self.save()
                if training.eval_every and self.step % training.eval_every == 0 and not self.finished:
                    self._evaluate()
            if self.stopped_by is None:
                update_prior(self.model, self.task, self.world)
            self.save()
            if self.stopped_by is None:
                self.figures = self._evaluate()

    def save(self) -> Path:
        """Write a checkpoint of the present state.

        Raises:
            UserError: when a parameter is not a number: an earlier, good checkpoint is not to be replaced by it.
        """
        self._update_gate()
        if not self._parameters_are_finite():
            self._diverged("parameters that are not numbers")
        path = checkpoint.save(
            self.folder.checkpoints,
            self.progress.step,
            self._tensors(self.engine.state()),
            {"progress": vars(self.progress)},
            self.config.training.keep,
            world=self.world,
        )
        self.monitor.scalars(self.progress.step, {"seconds": self.progress.seconds}, event="checkpoint")
        return path

    def _step(self, stop: StopRequest) -> dict[str, float]:
        """One optimiser step; its figures, the same on all ranks."""
        begin = time.perf_counter()
        config, progress, clock = self.config, self.progress, self.clock
        place = self._enter_phase()
        rates = self._set_rates(place)
        with clock.phase("data"):
            batches = self._read_batches()
        try:
            total, parts = self._accumulate(place, batches)
        except (torch.linalg.LinAlgError, UserError) as error:
            # A solver meets a dictionary that ran away before the loss does; at the first step the error is its own.
            if isinstance(error, UserError) and progress.step == 0:
                raise
            self._diverged(f"that codes cannot be solved ({error})")
        with clock.phase("step"):
            # One message for all that the ranks have to agree on. What a step needs after it counts with the next one.
            seconds, begin = self._unclocked + time.perf_counter() - begin, time.perf_counter()
            signals = {name: float(stop.signal == name) for name in STOP_SIGNALS}
            own = {"loss": total, **parts, "seconds": seconds, **signals}
            mean = self.world.all_reduce_mean(torch.tensor(list(own.values()), dtype=torch.float64))
            agreed = dict(zip(own, mean.tolist(), strict=True))
            total = agreed["loss"]
            if not math.isfinite(total):
                self._diverged(f"loss {total:g}")
            norm = self.engine.step(config.optimizer.clip_norm)
        if not math.isfinite(norm):
            self._diverged(f"loss {total:g} and gradient norm {norm:g}")
        progress.step += 1
        progress.seconds += agreed.pop("seconds")
        self.stopped_by = max(STOP_SIGNALS, key=agreed.__getitem__) if any(map(agreed.get, STOP_SIGNALS)) else None
        self._unclocked = time.perf_counter() - begin
        facts = {name: value for name, value in agreed.items() if name not in STOP_SIGNALS}
        return facts | {"gradient_norm": norm, "lr": rates["gate" if place.phase.mode == "distill" else "experts"]}

    def _log(self, facts: dict[str, float]) -> None:
        """Show a step's figures, and where the time has gone since the last ones were shown."""
        facts = facts | {"ms_per_step": 1e3 * self.progress.seconds / self.step}
        facts |= self.usage.facts(self.usage.counts()) | self.clock.facts()
        self.monitor.scalars(self.step, facts, text={"phase": str(self._last_mode())})
        if self.world.size > 1:
            self.monitor.histogram(self.step, "ranks/working_ms", self.clock.working_ms())
        self.clock.reset()

    def _set_rates(self, place: Position) -> dict[str, float]:
        config, progress = self.config.optimizer, self.progress
        factor = rate_factor(config, progress.step - progress.phase_start, place.progress)
        rates = {"experts": config.lr * factor, "trunk": config.trunk_lr * factor, "gate": config.gate_lr * factor}
        for group in self.engine.param_groups:
            group["lr"] = rates[group["name"]]
        return rates

    def _read_batches(self) -> list[Batch]:
        """This rank's part of the step's micro-batches; an unreadable picture costs no step that was done."""
        micros = range(self.config.optimizer.accumulation)
        try:
            batches = self.world.raise_on_all_ranks(
                lambda: [self.task.batch(self.step, micro, self.world) for micro in micros]
            )
            return [batch.to(self.world.device) for batch in batches]
        except UserError:
            if self.step > 0:
                self.monitor.message(f"an image cannot be read; wrote {self.save()}")
            raise

    def _accumulate(self, place: Position, batches: list[Batch]) -> tuple[float, dict[str, float]]:
        """Gradients of the whole batch, micro-batch by micro-batch; this rank's part of the loss and of its parts."""
        config, mode, count = in_phase(self.config, place.phase), place.phase.mode, len(batches)
        if mode == "gate":
            self._synchronise_gate(analysis=False)
        warm = self.step < config.coding.warmup_steps
        parts: dict[str, float] = {}
        losses: list[float] = []
        weights = [batch.weight for batch in batches]
        clock = self.clock
        with products_in(config.training.precision, self.world.device):
            with clock.phase("codes"):
                prepared = [prepare(self.model, b, config, mode, warm=warm, alone=count == 1) for b in batches]
                shared = average([each.statistics for each in prepared], weights, self.world)
            self.task.prefetch(self.step + 1, self.world)
            for each, weight in zip(prepared, weights, strict=True):
                with clock.phase("forward"):
                    loss = LOSSES[mode](self.model, each, shared, config, self.world)
                with clock.phase("backward"):
                    self.engine.backward(loss.total * (weight / count))
                if weight:
                    self.usage.add(loss.code)
                losses.append(weight * loss.total.item())
                for name, value in loss.parts.items():
                    parts[name] = parts.get(name, 0.0) + weight * value / count
        return math.fsum(losses) / count, parts

    def _enter_phase(self) -> Position:
        phases, progress = self.config.coding.phases, self.progress
        place = position(phases, self._done())
        if place.index != progress.phase:
            # While codes are solved an unrolled gate does not learn; then it starts anew, from the dictionary as it is.
            self._synchronise_gate(analysis="solve" in (self._last_mode(), place.phase.mode))
            progress.phase, progress.phase_start = place.index, progress.step
        self.model.dictionary.requires_grad_(place.phase.mode != "distill")
        if self.model.gate is not None:
            self.model.gate.requires_grad_(trains_gate(self.model, self.config, place.phase.mode))
        return place

    def _synchronise_gate(self, *, analysis: bool) -> None:
        self.model.synchronise_gate(analysis)
        if analysis:
            self.engine.refresh()

    def _update_gate(self) -> None:
        """Bring what the gate knows of the dictionary up to date, for others to read; no later step depends on it."""
        self._synchronise_gate(analysis=self._last_mode() == "solve")

    def _last_mode(self) -> str | None:
        """Of the phase that the last step belonged to; None before the first, or when the phases were changed."""
        phases, index = self.config.coding.phases, self.progress.phase
        return phases[index].mode if 0 <= index < len(phases) else None

    def _done(self) -> float:
        training = self.config.training
        done = self.progress.step / training.steps
        return max(done, self.progress.seconds / training.max_seconds) if training.max_seconds else done

    def _evaluate(self) -> dict[str, float]:
        self._update_gate()
        model, counts = self.model.unsharded(), self.usage.counts()
        with products_in(self.config.training.precision, self.world.device):
            figures = self.task.evaluate(model, self.world)
        figures["effective_rank"] = self.world.on_rank_zero(lambda: effective_rank(model))
        figures |= self.usage.facts(counts)
        self.monitor.scalars(self.step, figures, event="eval")
        self.monitor.histogram(self.step, "experts/load", counts)
        if self.world.size > 1:
            self.monitor.histogram(self.step, "ranks/tokens", self.usage.tokens_by_rank(counts))
        every = self.config.logging.pictures_every
        if every and (self.step % every == 0 or self.finished) and self.world.first:
            for name, picture in pictures(model, self.task, counts).items():
                self.monitor.picture(self.step, name, picture)
        self.usage.reset()
        return figures

    def _parameters_are_finite(self) -> bool:
        bad = sum(not bool(parameter.isfinite().all()) for parameter in self.model.parameters())
        return not self.world.all_reduce_sum(torch.tensor(bad))

    def _diverged(self, found: str) -> NoReturn:
        self.monitor.scalars(self.step, {}, event="warning", text={"message": f"diverged: {found}"})
        raise divergence(self.config.optimizer, self.folder.checkpoints, self.step + 1, found)

    def _tensors(self, optimizer: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a checkpoint holds, the experts' as parts of the whole."""
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        return {name: self.world.as_shard(value) if is_sharded(name, value) else value for name, value in state.items()}
