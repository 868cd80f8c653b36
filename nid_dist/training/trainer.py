"""The training loop: phases, steps, evaluation, checkpoints, and a clean stop."""

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from nid_dist.config.schema import Config
from nid_dist.dictionary.initialisation import initialise_heads, whiten_features
from nid_dist.errors import UserError
from nid_dist.evaluation.effective_rank import effective_rank
from nid_dist.model import Model
from nid_dist.parallel.engine import Engine
from nid_dist.tasks.images import ImageTask
from nid_dist.training import checkpoint
from nid_dist.training.evaluation import evaluate, pictures
from nid_dist.training.losses import Loss, distill_loss, gate_loss, solve_loss
from nid_dist.training.monitor import Monitor
from nid_dist.training.run_folder import RunFolder
from nid_dist.training.schedule import Position, position, rate_factor
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
        self.usage = ExpertUsage(model.dictionary.size)
        self._stop: str | None = None
        self.optimizer = self._make_optimizer()
        engine.prepare([model], self.optimizer)

    def initialise(self) -> None:
        """Data-dependent initial values; not for a resumed run."""
        config, dictionary = self.config.dictionary, self.model.dictionary
        if config.whiten:
            whiten_features(dictionary, self.model.coords)
        if config.init != "random" and dictionary.linear:
            generator = torch.Generator().manual_seed(self.config.training.seed)
            count = max(16, min(_INITIAL_SIGNALS, _INITIAL_NUMBERS // (len(self.model.coords) * self.model.channels)))
            sample = self.task.sample(count)
            initialise_heads(dictionary, self.model.coords, sample, config.init, generator)
        self.model.synchronise_gate()

    def resume(self, source: Path) -> None:
        """Continue from one checkpoint, or from the newest good one of a folder."""
        _, facts = checkpoint.load_newest(source, self._tensors())
        self.progress = Progress(**facts["progress"])

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.progress.step

    def run(self, monitor: Monitor) -> dict[str, float]:
        """Train until the end, or until asked to stop.

        Args:
            monitor: of the run.

        Returns:
            The last evaluation's figures.

        Raises:
            UserError: when the loss is not a number.
        """
        training, self.monitor = self.config.training, monitor
        previous = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGTERM, signal.SIGINT)}
        figures: dict[str, float] = {}
        try:
            while not self._finished() and self._stop is None:
                self._step()
                step = self.progress.step
                if training.checkpoint_every and step % training.checkpoint_every == 0 and not self._finished():
                    self.save()
                if training.eval_every and step % training.eval_every == 0 and not self._finished():
                    figures = self._evaluate()
            self.save()
            if self._stop is None:
                figures = self._evaluate()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return figures

    @property
    def stopped_by(self) -> str | None:
        """The signal that stopped the run early, or None."""
        return self._stop

    def save(self) -> Path:
        """Write a checkpoint of the present state."""
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
        factor = rate_factor(config.optimizer, progress.step - progress.phase_start, place.progress)
        rates = {
            "experts": config.optimizer.lr * factor,
            "trunk": config.optimizer.trunk_lr * factor,
            "gate": config.optimizer.gate_lr * factor,
        }
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["name"]]
        accumulation = config.optimizer.accumulation
        parts: dict[str, float] = {}
        total = 0.0
        for micro in range(accumulation):
            loss = self._loss(place, micro)
            self.engine.backward(loss.total / accumulation)
            self.usage.add(loss.code)
            total += loss.total.item() / accumulation
            for name, value in loss.parts.items():
                parts[name] = parts.get(name, 0.0) + value / accumulation
        norm = self.engine.step(config.optimizer.clip_norm)
        if not (total == total and abs(total) != float("inf") and norm == norm and norm != float("inf")):
            self._diverged(total, norm)
        progress.step += 1
        progress.seconds += time.perf_counter() - begin
        if progress.step % config.logging.log_every == 0:
            facts = {"loss": total, **parts, "gradient_norm": norm, "lr": rates["experts"]}
            facts["ms_per_step"] = 1e3 * progress.seconds / progress.step
            self.monitor.scalars(progress.step, facts | self.usage.facts(), text={"phase": place.phase.mode})

    def _loss(self, place: Position, micro: int) -> Loss:
        batch = self.task.batch(self.progress.step, micro)
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if place.phase.mode == "solve":
                return solve_loss(self.model, batch, self.config)
            if place.phase.mode == "distill":
                return distill_loss(self.model, batch, self.config)
            return gate_loss(self.model, batch, self.config, self.progress.step < self.config.coding.warmup_steps)

    def _enter_phase(self) -> Position:
        place = position(self.config.coding.phases, self._done())
        if place.index != self.progress.phase:
            self.progress.phase, self.progress.phase_start = place.index, self.progress.step
            if place.phase.mode == "distill":
                self.model.synchronise_gate()
        self.model.dictionary.requires_grad_(place.phase.mode != "distill")
        return place

    def _done(self) -> float:
        training = self.config.training
        done = self.progress.step / training.steps
        return max(done, self.progress.seconds / training.max_seconds) if training.max_seconds else done

    def _finished(self) -> bool:
        return self._done() >= 1.0

    def _evaluate(self) -> dict[str, float]:
        step, model = self.progress.step, self.model
        mode = self.config.coding.phases[self.progress.phase].mode
        if mode == "solve":
            model.synchronise_gate()
        figures = evaluate(model, self.task)
        atoms = model.dictionary.atoms(model.coords).detach()
        figures["effective_rank"] = effective_rank((atoms - atoms.mean(1, keepdim=True)).flatten(1))
        self.monitor.scalars(step, figures, event="eval")
        self.monitor.histogram(step, "experts/load", self.usage.counts)
        every = self.config.logging.pictures_every
        if every and (step % every == 0 or self._finished()):
            for name, picture in pictures(model, self.task, atoms, self.usage.counts).items():
                self.monitor.picture(step, name, picture)
        self.usage.reset()
        return figures

    def _diverged(self, total: float, norm: float) -> None:
        good = checkpoint.newest(self.folder.checkpoints)
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written yet"
        raise UserError(
            f"training step {self.progress.step + 1}",
            found=f"loss {total:g} and gradient norm {norm:g}",
            expected="finite numbers",
            mend=f"{kept}; the likely cause is a learning rate that is too high (optimizer.lr "
            f"{self.config.optimizer.lr:g}): lower it, raise optimizer.warmup_steps or lower optimizer.clip_norm",
        )

    def _ask_to_stop(self, number: int, _: FrameType | None) -> None:
        # Python runs handlers between byte codes: the step is finished first, then a checkpoint is written.
        self._stop = signal.Signals(number).name

    def _tensors(self) -> dict[str, torch.Tensor]:
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return state | {f"optimizer.{name}": value for name, value in self.engine.state().items()}

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config = self.config.optimizer
        parts: dict[str, torch.nn.Module] = {"experts": self.model.dictionary.experts, "trunk": self.model.dictionary.trunk}
        if self.model.gate is not None:
            parts["gate"] = self.model.gate
        groups = [{"params": list(part.parameters()), "name": name} for name, part in parts.items()]
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        return kind(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, eps=1e-8)
