"""A run to which one fault after the other happens; each time its training must go on, and what was lost is counted."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from random import Random
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from nid_dist.benchmarks.faults.processes import Training, log_lines, losses

STEPS, EVERY, KEEP = 240, 3, 3
"""Of each training: its steps, the steps from one checkpoint to the next, and how many are kept."""

_MARGIN = 90  # steps that a fault and the resumption after it may take
_RELATIVE = 1e-4  # that losses of so many processes and of one may differ
_PATIENCE = 120.0
_CONFIG = f"""
signals: {{source: folder, path: images, patch: 8, stride: 4, val: [picture-3.png], test: [picture-4.png]}}
dictionary: {{experts: 32, width: 16, encoding: {{kind: fourier, features: 8, scale: 4}}}}
coding: {{support: 4, blocks: 2, gate: {{kind: light, width: 8}}, prior_signals: 24, phases: [{{mode: solve}}]}}
optimizer: {{warmup_steps: 0, schedule: constant}}
parallel: {{device: cpu, timeout_seconds: 60.0, rendezvous_seconds: 60.0}}
training: {{steps: {STEPS}, batch: 16, eval_every: 0, checkpoint_every: {EVERY}, keep: {KEEP}}}
logging: {{log_every: 1, tensorboard: false, progress: false, pictures_every: 0}}
"""


@runtime_checkable
class Processes(Protocol):
    """A training of several processes, forked or started by a launcher: what a course does with either."""

    @property
    def codes(self) -> Any:
        """Exit codes; None: it runs."""

    def until(self, step: int) -> None:
        """Wait until that step is logged."""

    def end(self, within: float = ...) -> Any:
        """Wait for the end of all: exit codes."""

    def kill(self, rank: int, number: int = ...) -> None:
        """Send a signal."""

    def resumed_at(self) -> int:
        """The step that it has gone on from."""

    def close(self) -> None:
        """End what is left of it."""


@dataclass
class Record:
    """A fault, and what came of it."""

    kind: str
    processes: int
    survived: bool = False  # all processes ended, and the training went on from there with the undisturbed one's losses
    steps_lost: int = 0  # that the last complete checkpoint had and the resumed training did again
    used_damaged: bool = False  # whether it went on from a checkpoint that had been damaged
    recovery_seconds: float | None = None  # from the fault to the first step after it, imports included
    losses_equal: bool = False  # of all steps after it, to those of the undisturbed training
    note: str = ""  # what was wrong


def write_inputs(folder: Path) -> Path:
    """Pictures of a few pixels and the configuration of a training on them; its path."""
    (folder / "images").mkdir(parents=True)
    for number in range(5):
        chance = np.random.default_rng(number)
        rows, columns = np.mgrid[0:24, 0:32] / 8.0
        waves = [np.cos(a * rows + b * columns + c) for a, b, c in chance.normal(size=(9, 3))]
        values = 128 + 30 * np.stack(waves).reshape(3, 3, 24, 32).sum(0)
        Image.fromarray(np.clip(np.moveaxis(values, 0, -1), 0, 255).astype(np.uint8)).save(
            folder / "images" / f"picture-{number}.png"
        )
    path = folder / "config.yaml"
    path.write_text(_CONFIG)
    return path


def arguments(config: Path, run: Path, *settings: str) -> list[str]:
    """Of the command that begins a run or goes on with it."""
    own = [f"signals.path={config.parent / 'images'}", f"logging.run_dir={run}", *settings]
    return ["--config", str(config), "--resume", "auto", "--set", *own]


def undisturbed(config: Path) -> dict[int, float]:
    """The loss of each step of one process that nothing happens to."""
    run = config.parent / "undisturbed"
    with Training(arguments(config, run), run, 1) as training:
        assert training.end() == [0], training.err
    return dict(losses(run))


class Course:
    """Runs in a folder, one after the other, each for as many faults as its steps are enough for.

    Args:
        folder: new; the runs lie in it.
        config: of the trainings, from `write_inputs`.
        expected: the loss of each undisturbed step.
        size: how many processes.
        imports: seconds that so many processes take to import what forked ones have imported.
        start: begins the processes of a training, of these arguments, run, number, and faults by rank.
        prepare: called with the folder of a run before it begins, which it may make; does nothing by default.
    """

    def __init__(
        self,
        folder: Path,
        config: Path,
        expected: Mapping[int, float],
        size: int,
        imports: float = 0.0,
        start: Callable[..., Processes] = Training,
        prepare: Callable[[Path], object] = bool,
    ) -> None:
        self.folder, self.config, self.expected = folder, config, expected
        self.size, self.chance, self.records = size, Random(size), list[Record]()
        self._imports, self._start, self._prepare, self._number = imports, start, prepare, 0
        self._training: Processes | None = None
        self._struck: float | None = None
        folder.mkdir(parents=True)
        self._renew()

    def _renew(self) -> None:
        self._number += 1
        self.run = self.folder / f"run-{self._number}"
        self._prepare(self.run)
        # Steps of the checkpoints that the log calls written and nothing has harmed, in their order.
        self.complete: list[int] = []
        self.damaged: set[int] = set()
        self._read = 0  # bytes of the log that have been looked at

    @property
    def last(self) -> int:
        """The step of the last complete checkpoint; 0: there is none."""
        return self.complete[-1] if self.complete else 0

    @property
    def next(self) -> int:
        """The step of the next checkpoint after the last."""
        return (self.last // EVERY + 1) * EVERY

    def path(self, step: int) -> Path:
        """A checkpoint's."""
        return self.run / "checkpoints" / f"step-{step:08d}"

    def damage(self, step: int) -> None:
        """From here on that checkpoint is not to be used."""
        self.complete.remove(step)
        self.damaged.add(step)

    def running(self, faults: Mapping[int, tuple[Any, ...]] | None = None, *settings: str) -> Processes:
        """A training that has done a step at least; of new processes where they are to have faults or settings."""
        if self._training is not None and (faults or settings):
            self.stop()
        if self._training is None:
            self.begin(faults, *settings).until(self.last + 1)
        assert self._training is not None
        return self._training

    def begin(self, faults: Mapping[int, tuple[Any, ...]] | None = None, *settings: str) -> Processes:
        """New processes."""
        shared = min(2, self.size)
        own = (f"parallel.expert_parallel_size={shared}", *settings)
        self._training = self._start(arguments(self.config, self.run, *own), self.run, self.size, faults)
        return self._training

    def stop(self, *, wait: float = 60.0) -> None:
        """End the training as its user would."""
        training = self._training
        if training is not None:
            for rank in range(self.size):
                training.kill(rank, 15)
            training.end(wait)
            self.ended()

    def struck(self) -> None:
        """The clock of the recovery begins to run."""
        self._struck = time.monotonic()

    def ended(self) -> None:
        """All processes have ended: note what they had written."""
        if self._training is not None:
            self._training.close()
            self._training = None
        self._look()

    def meet(self, kind: str, fault: Callable[["Course"], None]) -> Record:
        """Let a fault happen to the training, and go on with it."""
        record = Record(kind, self.size)
        self.records.append(record)
        try:
            if self.last > STEPS - _MARGIN:
                self._finish()
            self._struck = None
            fault(self)
            self.ended()
            self._recover(record)
        except (AssertionError, OSError, ValueError, KeyError) as error:
            record.note = record.note or str(error)[:2000] or repr(error)
            with suppress(Exception):
                self.ended()
            self._renew()
        return record

    def close(self) -> None:
        """Stop what runs."""
        self.stop()

    def _recover(self, record: Record) -> None:
        last = self.last
        training = self.begin()
        training.until(last + 1)
        assert self._struck is not None
        record.recovery_seconds = time.monotonic() - self._struck + self._imports
        training.until(last + 2)
        resumed = training.resumed_at()
        record.steps_lost = max(0, last - resumed)
        record.used_damaged = resumed in self.damaged
        self.complete = [step for step in self.complete if step <= resumed]
        self.damaged.clear()
        record.losses_equal = True
        record.survived = not record.steps_lost and not record.used_damaged
        self._look()

    def _finish(self) -> None:
        """The rest of the steps, undisturbed: all are there, each with its loss; then another run."""
        if self._training is None:
            self.begin()
        assert self._training is not None
        codes = self._training.end(_PATIENCE)
        assert set(codes) == {0}, codes
        self.ended()
        missing = self.expected.keys() - {step for step, _ in losses(self.run)}
        assert not missing, f"steps {sorted(missing)} are missing"
        self._renew()

    def _look(self) -> None:
        """Read on in the log: which checkpoints there are, and whether the losses are those of the undisturbed run."""
        log = self.run / "log.jsonl"
        if not log.exists():
            return
        text = log.read_bytes()
        lines = log_lines(self.run, self._read)
        self._read = text.rfind(b"\n") + 1
        for line in lines:
            step = line["step"]
            if line["event"] == "checkpoint":
                self.complete = [other for other in self.complete if other != step] + [step]
            elif line["event"] == "train":
                loss, expected = line["loss"], self.expected[step]
                if not isclose(loss, expected, rel_tol=_RELATIVE, abs_tol=0.0) and self.records:
                    record = self.records[-1]
                    record.survived = record.losses_equal = False
                    record.note = record.note or f"loss {loss:.6g} of step {step} instead of {expected:.6g}"
