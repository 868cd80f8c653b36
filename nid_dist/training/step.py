"""One optimiser step: codes, losses, gradients and Adam, without waiting for the device that does them.

Nothing here asks the device for a number. Figures stay there until they are read for the log, and so does the decision
whether the step counts: where a loss or a gradient is not finite no parameter changes, in this step and in all later
ones, and what was found is kept for whoever asks (`failure`). So a step of one process is a fixed sequence of kernels,
recorded once for each kind of step and replayed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from nid_dist.code import Code
from nid_dist.config.schema import Config, Phase
from nid_dist.graphs import Recorder, Recording, can_record
from nid_dist.model import Model
from nid_dist.parallel.engines.engine import Engine, LocalEngine
from nid_dist.parallel.world import World
from nid_dist.precision import products_in
from nid_dist.samples import Batch
from nid_dist.training.losses import LOSSES, average, prepare, trains_gate
from nid_dist.training.schedule import in_phase
from nid_dist.training.telemetry import StepClock
from nid_dist.training.usage import ExpertUsage

_FIRST = 3  # steps of a kind that are launched from Python before it is recorded
_NONE = -1.0

Figures = Mapping[str, Float64[Tensor, ""]]
"""Of one step, on the device: `loss`, its parts, `gradient_norm`; this rank's, in units of the objective."""


@dataclass(frozen=True)
class Failure:
    """Of a step that changed nothing, what was found, on this rank."""

    step: int  # counted from 1
    loss: float
    gradient_norm: float
    unsolved: int | None  # the first signal of a micro-batch whose code could not be solved


class TrainingStep:
    """The optimiser steps of a model. `number` steps have been done before the first."""

    def __init__(
        self, config: Config, model: Model, engine: Engine, world: World, usage: ExpertUsage, clock: StepClock
    ) -> None:
        self._config, self._model, self._engine, self._world = config, model, engine, world
        self._usage, self._clock = usage, clock
        self._phase: Callable[[str], AbstractContextManager[object]] = clock.phase
        self._number = torch.zeros((), dtype=torch.float64, device=world.device)
        self._failed = torch.full((4,), _NONE, dtype=torch.float64, device=world.device)
        self._launched: Counter[object] = Counter()
        self._recordings: dict[object, Recording | None] = {}
        # Engines of several ranks keep books in Python.
        records = config.parallel.cuda_graphs and isinstance(engine, LocalEngine) and can_record(world.device)
        self._recorder = Recorder(world.device) if records else None
        self.warnings: list[str] = []
        """What is to be said of recordings, once."""

    def begin(self, number: int) -> None:
        """Count from so many steps."""
        self._number.fill_(number)
        self._failed.fill_(_NONE)

    def failure(self) -> Failure | None:
        """The first step that changed nothing since `begin`; the device is waited for."""
        number, loss, norm, unsolved = self._failed.tolist()
        return None if number == _NONE else Failure(int(number), loss, norm, None if unsolved < 0 else int(unsolved))

    def run(self, phase: Phase, batches: Sequence[Batch], *, is_warmup: bool) -> Figures:
        """Take one step on this rank's parts of the micro-batches."""
        if self._recorder is None:
            return self._step(phase, batches, is_warmup=is_warmup)
        learns = trains_gate(self._model, self._config, phase.mode)
        noisy = phase.mode == "gate" and self._config.coding.gate.noisy and not is_warmup
        noise = self._config.dictionary.experts if noisy else None
        tensors = [batch.tensors(gate_input=learns, noise=noise) for batch in batches]
        inputs = {f"{micro}.{name}": tensor for micro, some in enumerate(tensors) for name, tensor in some.items()}
        kind = (
            *(phase.mode, phase.loss, is_warmup, *(batch.weight for batch in batches)),
            *((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items()),
            *(parameter.requires_grad for parameter in self._model.parameters()),
        )

        def call(held: Mapping[str, Tensor]) -> Figures:
            own = [
                batch.with_tensors({name: held[f"{micro}.{name}"] for name in some})
                for micro, (batch, some) in enumerate(zip(batches, tensors, strict=True))
            ]
            return self._step(phase, own, is_warmup=is_warmup)

        return self._replayed(self._recorder, kind, call, inputs)

    def _replayed(
        self,
        recorder: Recorder,
        kind: object,
        call: Callable[[Mapping[str, Tensor]], Figures],
        inputs: Mapping[str, Tensor],
    ) -> Figures:
        self._launched[kind] += 1
        if self._launched[kind] == _FIRST + 1:
            self._recordings[kind] = self._record(recorder, call, inputs)
        recording = self._recordings.get(kind)
        if recording is None:
            with recorder.stream():
                return call(inputs)
        with self._phase("graph"):
            return recording.replay(inputs)

    def _record(
        self, recorder: Recorder, call: Callable[[Mapping[str, Tensor]], Figures], inputs: Mapping[str, Tensor]
    ) -> Recording | None:
        self._phase = nullcontext  # inside a graph nothing is timed
        try:
            return recorder.record(call, inputs)
        except RuntimeError as error:
            for parameter in self._model.parameters():
                parameter.grad = None
            reason = str(error).splitlines()[0]
            self.warnings.append(f"a step cannot be recorded as a graph, and is launched piece by piece: {reason}")
            return None
        finally:
            self._phase = self._clock.phase

    def _step(self, phase: Phase, batches: Sequence[Batch], *, is_warmup: bool) -> Figures:
        """Gradients of the whole batch, micro-batch by micro-batch, and what the optimiser makes of them."""
        config, mode, count = in_phase(self._config, phase), phase.mode, len(batches)
        if mode == "gate":
            self._model.synchronise_gate(analysis=False)
        weights = [batch.weight for batch in batches]
        figures: dict[str, Tensor] = {}
        unsolved = self._failed.new_full((), _NONE)
        # Casts are not remembered: a recording would read them where they were.
        with products_in(config.training.precision, self._world.device, remember_casts=self._recorder is None):
            with self._phase("codes"):
                prepared = [prepare(self._model, b, config, mode, warm=is_warmup, alone=count == 1) for b in batches]
                shared = average([each.statistics for each in prepared], weights, self._world)
            for each, weight in zip(prepared, weights, strict=True):
                with self._phase("forward"):
                    loss = LOSSES[mode](self._model, each, shared, config, self._world)
                with self._phase("backward"):
                    self._engine.backward(loss.total * (weight / count))
                if weight:
                    self._usage.add(loss.code)
                if each.solved is not None:
                    unsolved = torch.where(unsolved < 0, _first_unsolved(each.solved), unsolved)
                for name, value in {"loss": loss.total.detach(), **loss.parts}.items():
                    share = value.double() * (weight / count)
                    figures[name] = figures[name] + share if name in figures else share
        with self._phase("step"):
            # After a step that failed none counts.
            total = torch.where(self._failed[0] == _NONE, figures["loss"], torch.nan)
            norm = self._engine.step(config.optimizer.clip_norm, total)
            self._number += 1
            found = torch.stack([self._number, figures["loss"], norm, unsolved])
            self._failed.copy_(torch.where(norm.isfinite() | (self._failed[0] != _NONE), self._failed, found))
        return figures | {"gradient_norm": norm}


def _first_unsolved(code: Code) -> Float64[Tensor, ""]:
    """The first signal whose code is not a number, -1 if there is none."""
    missing = code.values.isnan().any(1)
    if not len(missing):
        return torch.full((), _NONE, dtype=torch.float64, device=code.device)
    return torch.where(missing.any(), missing.double().argmax().double(), _NONE)
