"""The training loop: phases, steps, evaluation, checkpoints, and a clean stop."""

import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from nid_dist.checkpoints import checkpoint
from nid_dist.checkpoints.run_folder import CONFIGURATION, RunFolder
from nid_dist.config.schema import Config
from nid_dist.errors import UserError
from nid_dist.model import Model
from nid_dist.parallel.engines.engine import Engine
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.progress import DELAY, Phase, phase
from nid_dist.samples import Batch
from nid_dist.tasks.base import Task
from nid_dist.training.budget import Progress
from nid_dist.training.divergence import divergence, what_failed
from nid_dist.training.evaluation import evaluate
from nid_dist.training.initialization import initialise, is_sharded, make_optimizer
from nid_dist.training.losses import trains_gate
from nid_dist.training.monitor import Monitor
from nid_dist.training.prior import update_prior
from nid_dist.training.schedule import Position, position, rate_factor, set_rates
from nid_dist.training.step import Figures, TrainingStep
from nid_dist.training.stopping import STOPS, StopRequest
from nid_dist.training.telemetry import StepClock
from nid_dist.training.usage import ExpertUsage


class Trainer:
    """Trains a model on a task, together with all processes of a world; in this one alone by default.

    Args:
        begin: what the clock (`time.perf_counter`) showed when the run began; None: now.
    """

    monitor: Monitor

    def __init__(
        self,
        config: Config,
        task: Task,
        model: Model,
        engine: Engine,
        folder: RunFolder,
        world: World | None = None,
        begin: float | None = None,
    ) -> None:
        self._mark = time.perf_counter() if begin is None else begin  # up to which `progress.elapsed` counts
        self.config, self.task, self.model, self.engine, self.folder = config, task, model, engine, folder
        self.world = World(Topology(model.dictionary.num_experts)) if world is None else world
        self.progress = Progress()
        self._unclocked = 0.0  # seconds since the last step's message to all ranks
        self.usage, self.clock = ExpertUsage(model.dictionary.num_experts, self.world), StepClock(self.world)
        self.stopped_by: str | None = None
        """What stopped the last `run` early (of `STOPS`), or None."""
        self.figures: dict[str, float] = {}
        """The last evaluation's at the end of `run`; none after one that was stopped, or had finished before."""
        engine.prepare([model], make_optimizer(model, config.optimizer))
        self._steps = TrainingStep(config, model, engine, self.world, self.usage, self.clock)
        self._found: Figures = {}  # of the last step
        self._rehearsed: dict[int, dict[str, float]] = {}  # figures of the end that was tried out, by its step
        self._rates: dict[str, float] = {}

    def initialise(self) -> None:
        """Data-dependent initial values; not for a resumed run."""
        with self._phase("initial values"):
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
        self.progress = Progress.of(facts["progress"])
        return path

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.progress.step

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or as many as `training.max_seconds` leaves time for."""
        return self.progress.done(self.config.training) >= 1.0

    def run(self, monitor: Monitor) -> None:
        """Train until the end, or until asked to stop.

        Raises:
            UserError: when the loss is not a number.
        """
        training, self.monitor, self.stopped_by, self.figures = self.config.training, monitor, None, {}
        if self.finished:
            return
        self.clock.reset()
        self._steps.begin(self.step)
        with StopRequest(monitor.message) as stop:
            while not self.finished and self.stopped_by is None:
                with self.clock.step():
                    self._step(stop)
                log = self.step % self.config.logging.log_every == 0 or self.finished
                save, evaluate = (
                    every and self.step % every == 0 and not self.finished
                    for every in (training.checkpoint_every, training.eval_every)
                )
                # To ask the CPU costs nothing; a GPU is asked only where the answer is needed now.
                if log or save or evaluate or self.stopped_by is not None or self.world.device.type == "cpu":
                    self._require_good_steps()
                if log:
                    self._log()
                if save:
                    self.save()
                if self.progress.must_rehearse(training) and not self.finished and self.stopped_by is None:
                    self._rehearse()
                elif evaluate:
                    self._evaluate()
            # An end that left no time for further steps when it was tried out is the end.
            known = self._rehearsed.get(self.step)
            if self.stopped_by is None and known is None:
                self._update_prior()
            self.save()
            if self.stopped_by is None:
                self.figures = self._evaluate() if known is None else known

    def save(self) -> Path:
        """Write a checkpoint of the present state.

        Raises:
            UserError: when a parameter is not a number: an earlier, good checkpoint is not to be replaced by it.
        """
        self._update_gate()
        if not self._parameters_are_finite():
            self._diverged(self.step + 1, "parameters that are not numbers")
        path = checkpoint.save(
            self.folder.checkpoints,
            self.progress.step,
            self._tensors(self.engine.state()),
            # What it was trained with stays with it, whatever becomes of the run's folder.
            {"progress": vars(self.progress), CONFIGURATION: self.config.model_dump(mode="json")},
            self.config.training.keep,
            world=self.world,
        )
        self.monitor.scalars(self.progress.step, {"seconds": self.progress.seconds}, event="checkpoint")
        return path

    def _step(self, stop: StopRequest) -> None:
        """One optimiser step; its figures are on the device."""
        begin = time.perf_counter()
        progress, clock = self.progress, self.clock
        place = self._enter_phase()
        factor = rate_factor(self.config.optimizer, progress.step - progress.phase_start, place.progress)
        self._rates = set_rates(self.engine.param_groups, self.config.optimizer, factor)
        with clock.phase("data"):
            batches = self._read_batches()
            self.task.prefetch(self.step + 1, self.world)
        is_warmup = self.step < self.config.coding.warmup_steps
        try:
            self._found = self._steps.run(place.phase, batches, is_warmup=is_warmup)
        except (torch.linalg.LinAlgError, UserError) as error:
            # A solver meets a dictionary that ran away before the loss does; at the first step the error is its own.
            if isinstance(error, UserError) and progress.step == 0:
                raise
            self._diverged(self.step + 1, f"that codes cannot be solved ({error})")
        # One message for all that the ranks have to agree on. What a step needs after it counts with the next one.
        seconds, begin = self._unclocked + time.perf_counter() - begin, time.perf_counter()
        asked_by = stop.look()
        asked = {name: float(asked_by == name) for name in STOPS}
        own = {"seconds": seconds, "elapsed": begin - self._mark, **asked}
        mean = self.world.agree(torch.tensor(list(own.values()), dtype=torch.float64))
        agreed = dict(zip(own, mean.tolist(), strict=True))
        progress.step += 1
        progress.seconds += agreed.pop("seconds")
        progress.elapsed += agreed.pop("elapsed")
        self._mark = begin
        self.stopped_by = max(STOPS, key=agreed.__getitem__) if any(agreed.values()) else None
        self._unclocked = time.perf_counter() - begin

    def _log(self) -> None:
        """Show the last step's figures, and where the time has gone since the last ones were shown."""
        facts = self._read_figures()
        facts["lr"] = self._rates["gate" if self._last_mode() == "distill" else "experts"]
        facts["ms_per_step"], facts["elapsed"] = 1e3 * self.progress.seconds / self.step, self.progress.elapsed
        facts |= self.usage.facts(self.usage.counts()) | self.clock.facts()
        self.monitor.scalars(self.step, facts, text={"phase": str(self._last_mode())})
        if self.world.size > 1:
            self.monitor.histogram(self.step, "ranks/working_ms", self.clock.working_ms())
        self.clock.reset()
        while self._steps.warnings:
            self.monitor.message(self._steps.warnings.pop())

    def _read_figures(self) -> dict[str, float]:
        """The last step's figures, the same on all ranks; the device is waited for."""
        mean = self.world.all_reduce_mean(torch.stack(list(self._found.values())))
        return dict(zip(self._found, mean.tolist(), strict=True))

    def _require_good_steps(self) -> None:
        """End the training where a step had no result; it, and all after it, changed nothing.

        Raises:
            UserError: the same on all ranks.
        """
        begin = time.perf_counter()
        failure = self._steps.failure()
        if self.world.device.type != "cpu":
            # What the host was ahead of its GPU belongs to the steps.
            waited = torch.tensor(time.perf_counter() - begin, dtype=torch.float64)
            self.progress.seconds += self.world.agree(waited).item()
        if failure is None:
            return
        self._diverged(failure.step, what_failed(failure, self.world))

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

    def _enter_phase(self) -> Position:
        phases, progress = self.config.coding.phases, self.progress
        place = position(phases, progress.done(self.config.training))
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

    def _phase(self, name: str) -> AbstractContextManager[Phase]:
        """What is seen of work that is no step, where it takes long."""
        return phase(name, shown=self.world.first and self.config.logging.progress)

    def _update_prior(self) -> None:
        with self._phase("prior"):
            update_prior(self.model, self.task, self.world)

    def _rehearse(self) -> None:
        """Do what follows the last step, to know how much of the time is to be left for it."""
        begin, bound = time.perf_counter(), self.config.training.max_seconds
        self._update_prior()
        self._rehearsed = {self.step: self._evaluate()}
        took = torch.tensor(time.perf_counter() - begin, dtype=torch.float64)
        self.progress.ending = max(1e-3, self.world.agree(took).item())
        words = "the prior and the last evaluation" if self.model.stored_prior is not None else "the last evaluation"
        if self.progress.ending > DELAY:
            self.monitor.message(f"{words} will take about {self.progress.ending:.0f} of the {bound:g} s")

    def _evaluate(self) -> dict[str, float]:
        self._update_gate()
        every = self.config.logging.pictures_every
        with self._phase("evaluation"):
            figures = evaluate(
                self.model,
                self.task,
                self.usage,
                self.world,
                self.monitor,
                self.step,
                with_pictures=bool(every) and (self.step % every == 0 or self.finished),
            )
        self.model.validation = {name: value for name, value in figures.items() if name.startswith(("val/", "train/"))}
        return figures

    def _parameters_are_finite(self) -> bool:
        good = torch.stack([parameter.isfinite().all() for parameter in self.model.parameters()])
        return not self.world.all_reduce_sum((~good).sum())

    def _diverged(self, step: int, found: str) -> NoReturn:
        self.monitor.scalars(step - 1, {}, event="warning", text={"message": f"diverged: {found}"})
        raise divergence(self.config.optimizer, self.folder.checkpoints, step, found)

    def _tensors(self, optimizer: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a checkpoint holds, the experts' as parts of the whole."""
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"optimizer.{name}": value for name, value in optimizer.items()}
        return {name: self.world.as_shard(value) if is_sharded(name, value) else value for name, value in state.items()}
