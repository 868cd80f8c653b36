"""The training loop: phases, steps, evaluation, checkpoints, and a clean stop."""

import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from nid_dist.config.schema import Config
from nid_dist.dictionary.initialisation import initialise_heads, whiten_features
from nid_dist.errors import UserError
from nid_dist.model import Model, seeded
from nid_dist.parallel.engine import Engine
from nid_dist.tasks.images import ImageTask
from nid_dist.training import checkpoint
from nid_dist.training.evaluation import atoms_rank, evaluate, pictures
from nid_dist.training.losses import LOSSES, Batch, average, prepare
from nid_dist.training.monitor import Monitor
from nid_dist.training.run_folder import RunFolder
from nid_dist.training.schedule import Position, position, rate_factor
from nid_dist.training.stopping import StopRequest
from nid_dist.training.usage import ExpertUsage

_INITIAL_SIGNALS = 8192
_INITIAL_NUMBERS = 2**25  # of the sample for initial values: 128 MiB


@dataclass
class Progress:
    """Where the training is; everything besides tensors that a checkpoint must hold."""

    step: int = 0
    phase: int = -1
    phase_start: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a model on a task.

    Args:
        config: the configuration.
        task: signals.
        model: trained in place.
        engine: drives the optimiser.
        folder: of the run.
    """

    monitor: Monitor

    def __init__(self, config: Config, task: ImageTask, model: Model, engine: Engine, folder: RunFolder) -> None:
        self.config, self.task, self.model, self.engine, self.folder = config, task, model, engine, folder
        self.progress = Progress()
        self.seconds_before = 0.0
        """Spent on training before this process."""
        self.usage = ExpertUsage(model.dictionary.size)
        self.stopped_by: str | None = None
        """The signal that stopped the last `run` early, or None."""
        self.optimizer = self._make_optimizer()
        engine.prepare([model], self.optimizer)

    def initialise(self) -> None:
        """Data-dependent initial values; not for a resumed run."""
        config, dictionary = self.config.dictionary, self.model.dictionary
        if config.whiten:
            whiten_features(dictionary, self.model.coords)
        if config.init != "random" and dictionary.linear:
            count = max(16, min(_INITIAL_SIGNALS, _INITIAL_NUMBERS // (len(self.model.coords) * self.model.channels)))
            sample = self.task.sample(count)
            initialise_heads(dictionary, self.model.coords, sample, config.init, seeded(self.config.training.seed))
        self.model.synchronise_gate()

    def resume(self, source: Path) -> Path:
        """Continue from one checkpoint, or from the newest good one of a folder.

        Args:
            source: a checkpoint, or a folder of checkpoints.

        Returns:
            The checkpoint that was read; damaged ones are passed over with a warning.
        """
        path, facts = checkpoint.load_newest(
            source, self._tensors(), warn=lambda text: warnings.warn(text, stacklevel=2)
        )
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

    def run(self, monitor: Monitor) -> dict[str, float]:
        """Train until the end, or until asked to stop.

        Args:
            monitor: of the run.

        Returns:
            The last evaluation's figures; none for a run that was stopped, or had finished before.

        Raises:
            UserError: when the loss is not a number.
        """
        training, self.monitor, self.stopped_by = self.config.training, monitor, None
        if self.finished:
            return {}
        with StopRequest(monitor.message) as stop:
            while not self.finished and stop.signal is None:
                self._step()
                if training.checkpoint_every and self.step % training.checkpoint_every == 0 and not self.finished:
                    self.save()
                if training.eval_every and self.step % training.eval_every == 0 and not self.finished:
                    self._evaluate()
            self.save()
            self.stopped_by = stop.signal
            return {} if self.stopped_by else self._evaluate()

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
            self._tensors(),
            {"progress": vars(self.progress)},
            self.config.training.keep,
        )
        self.monitor.scalars(self.progress.step, {"seconds": self.progress.seconds}, event="checkpoint")
        return path

    def _step(self) -> None:
        begin = time.perf_counter()
        config, progress = self.config, self.progress
        place = self._enter_phase()
        rates = self._set_rates(place)
        batches = self._read_batches()
        try:
            total, parts = self._accumulate(place, batches)
        except (torch.linalg.LinAlgError, UserError) as error:
            # A solver meets a dictionary that ran away before the loss does; at the first step the error is its own.
            if isinstance(error, UserError) and progress.step == 0:
                raise
            self._diverged(f"that codes cannot be solved ({error})")
        if not math.isfinite(total):
            self._diverged(f"loss {total:g}")
        norm = self.engine.step(config.optimizer.clip_norm)
        if not math.isfinite(norm):
            self._diverged(f"loss {total:g} and gradient norm {norm:g}")
        progress.step += 1
        progress.seconds += time.perf_counter() - begin
        if progress.step % config.logging.log_every == 0 or self.finished:
            facts = {"loss": total, **parts, "gradient_norm": norm}
            facts["lr"] = rates["gate" if place.phase.mode == "distill" else "experts"]
            facts["ms_per_step"] = 1e3 * progress.seconds / progress.step
            self.monitor.scalars(progress.step, facts | self.usage.facts(), text={"phase": place.phase.mode})

    def _set_rates(self, place: Position) -> dict[str, float]:
        config, progress = self.config.optimizer, self.progress
        factor = rate_factor(config, progress.step - progress.phase_start, place.progress)
        rates = {"experts": config.lr * factor, "trunk": config.trunk_lr * factor, "gate": config.gate_lr * factor}
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["name"]]
        return rates

    def _read_batches(self) -> list[Batch]:
        """The step's micro-batches; a picture that has become unreadable costs no step that was done."""
        try:
            return [self.task.batch(self.step, micro) for micro in range(self.config.optimizer.accumulation)]
        except UserError:
            if self.step > 0:
                self.monitor.message(f"an image cannot be read; wrote {self.save()}")
            raise

    def _accumulate(self, place: Position, batches: list[Batch]) -> tuple[float, dict[str, float]]:
        """Gradients of the whole batch, micro-batch by micro-batch; its loss and the loss's parts."""
        config, mode, count = self.config, place.phase.mode, len(batches)
        if mode == "gate":
            self.model.synchronise_gate(analysis=False)
        warm = self.step < config.coding.warmup_steps
        parts: dict[str, float] = {}
        losses: list[float] = []
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16"):
            prepared = [prepare(self.model, b, config, mode, warm=warm, alone=count == 1) for b in batches]
            shared = average([each.statistics for each in prepared])
            self.task.prefetch(self.step + 1)
            for each in prepared:
                loss = LOSSES[mode](self.model, each, shared, config)
                self.engine.backward(loss.total / count)
                self.usage.add(loss.code)
                losses.append(loss.total.item())
                for name, value in loss.parts.items():
                    parts[name] = parts.get(name, 0.0) + value / count
        return math.fsum(losses) / count, parts

    def _enter_phase(self) -> Position:
        phases, progress = self.config.coding.phases, self.progress
        place = position(phases, self._done())
        if place.index != progress.phase:
            # While codes are solved an unrolled gate does not learn; then it starts anew, from the dictionary as it is.
            self.model.synchronise_gate(analysis="solve" in (self._last_mode(), place.phase.mode))
            progress.phase, progress.phase_start = place.index, progress.step
        self.model.dictionary.requires_grad_(place.phase.mode != "distill")
        return place

    def _update_gate(self) -> None:
        """Bring what the gate knows of the dictionary up to date, for others to read; no later step depends on it."""
        self.model.synchronise_gate(analysis=self._last_mode() == "solve")

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
        figures = evaluate(self.model, self.task)
        figures["effective_rank"] = atoms_rank(self.model)
        figures |= self.usage.facts()
        self.monitor.scalars(self.step, figures, event="eval")
        self.monitor.histogram(self.step, "experts/load", self.usage.counts)
        every = self.config.logging.pictures_every
        if every and (self.step % every == 0 or self.finished):
            for name, picture in pictures(self.model, self.task, self.usage.counts).items():
                self.monitor.picture(self.step, name, picture)
        self.usage.reset()
        return figures

    def _parameters_are_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    def _diverged(self, found: str) -> NoReturn:
        config = self.config.optimizer
        good = checkpoint.newest(self.folder.checkpoints)
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written yet"
        self.monitor.scalars(self.step, {}, event="warning", text={"message": f"diverged: {found}"})
        raise UserError(
            f"training step {self.step + 1}",
            found=found,
            expected="finite numbers",
            mend=f"{kept}; the likely cause is a learning rate that is too high (optimizer.lr {config.lr:g}, "
            f"trunk_lr {config.trunk_lr:g}, gate_lr {config.gate_lr:g}): lower it, raise optimizer.warmup_steps or "
            f"{'lower' if config.clip_norm else 'set'} optimizer.clip_norm",
        )

    def _tensors(self) -> dict[str, torch.Tensor]:
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return state | {f"optimizer.{name}": value for name, value in self.engine.state().items()}

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config = self.config.optimizer
        parts: dict[str, torch.nn.Module] = {
            "experts": self.model.dictionary.experts,
            "trunk": self.model.dictionary.trunk,
        }
        if self.model.gate is not None:
            parts["gate"] = self.model.gate
        groups = [{"params": list(part.parameters()), "name": name} for name, part in parts.items()]
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        return kind(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, eps=1e-8)
