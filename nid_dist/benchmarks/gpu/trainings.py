"""Steps a second of each task's training in each mode: with its data, and with one batch that is there; and how busy.

A training runs as any other, but for what comes after steps: nothing is evaluated or written.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nid_dist.benchmarks.gpu.activity import observe
from nid_dist.benchmarks.gpu.timing import TimeBox
from nid_dist.benchmarks.harness import QUIET
from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.config import Config, load_config
from nid_dist.device import synchronise
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.setup import make_engine, open_world
from nid_dist.parallel.world import World
from nid_dist.samples import Batch
from nid_dist.tasks.registry import make_task
from nid_dist.tasks.video.comparison import write_clip
from nid_dist.tasks.video.synthetic_clip import synthetic_clip
from nid_dist.training.monitor import Monitor
from nid_dist.training.stopping import StopRequest
from nid_dist.training.trainer import Trainer

_EMBEDDED = ("signals.source=embedded", "signals.path=null", "signals.short_side=256", "signals.val=[retina]")
_UNROLLED, _BATCH = "coding.gate={kind: unrolled}", "training.batch=128"
OFF = (*QUIET, "coding.prior_rank=0", "training.steps=1000000")


@dataclass(frozen=True)
class Training:
    """A shipped configuration, and what is set of it."""

    config: str | Path
    overrides: tuple[str, ...]


TRAININGS: Mapping[str, Training] = {
    "quickstart_solve": Training("quickstart", ("coding.phases=[{mode: solve}]", _BATCH)),
    "quickstart_distill": Training("quickstart", ("coding.phases=[{mode: distill}]", _UNROLLED, _BATCH)),
    "quickstart_gate": Training("quickstart", ("coding.phases=[{mode: gate}]", _UNROLLED, _BATCH)),
    "images_n65536": Training(
        "large/images_65536", (*_EMBEDDED, "signals.test=[astronaut]", "coding.phases=[{mode: solve}]")
    ),
    "sdf_n4096": Training("large/sdf_4096", ("signals.shapes=64",)),
    "ct_n1024": Training("ct_shepp_logan", ("signals.phantoms=256", "coding.phases=[{mode: distill}]")),
    "video": Training(
        "video_rpca", ("signals.path={folder}/clip", "signals.short_side=null", "signals.video.stop=null")
    ),
}
"""By the names of their figures."""


@dataclass(frozen=True)
class TrainingSizes:
    """How many steps, and of which trainings."""

    trainings: Mapping[str, Training] = field(default_factory=lambda: TRAININGS)
    warm_up: int = 12  # steps of which some are launched one by one before they are recorded
    steps: int = 200  # that are timed, at most
    seconds: float = 2.0  # that they take, at most
    profiled: int = 4
    clip: tuple[int, int, int] = (60, 216, 384)  # frames, rows and columns of the video


def measure(sizes: TrainingSizes, box: TimeBox) -> Iterator[dict[str, float]]:
    """Of each training `NAME_steps_per_s`, `..._repeated` with one batch, and `NAME_busy`, `_launches`, `_waits`.

    `busy` is the share of the time that the device computes or copies, with data.
    """
    with tempfile.TemporaryDirectory() as folder:
        took = 0.0
        for name, training in sizes.trainings.items():
            if not box.admits(f"training {name}", took):
                continue
            begin = time.monotonic()
            if any("{folder}" in given for given in training.overrides):
                write_clip(synthetic_clip(*sizes.clip), Path(folder, "clip"))
            given = [each.replace("{folder}", folder) for each in (*training.overrides, *OFF)]
            config = load_config(training.config, [*given, f"logging.run_dir={folder}/run"])
            yield {f"{name}_{figure}": value for figure, value in measured(config, sizes).items()}
            took = time.monotonic() - begin


def measured(config: Config, sizes: TrainingSizes) -> dict[str, float]:
    """The figures of one training, from nothing."""
    with open_world(config, Launch()) as world:
        trainer = Stepper(config, world)
        trainer.initialise()
        seconds = trainer.seconds_of_steps(sizes.warm_up, sizes.steps, sizes.seconds)
        activity = observe(lambda: trainer.take(sizes.profiled), world.device, sizes.profiled)
        trainer.repeat()
        again = trainer.seconds_of_steps(3, sizes.steps, sizes.seconds)
    return {
        "steps_per_s": 1 / seconds,
        "steps_per_s_repeated": 1 / again,
        "busy": activity.busy / seconds,
        "launches": activity.launches,
        "waits": activity.waits,
    }


class Stepper(Trainer):
    """A trainer that takes as many steps as it is told, in one process."""

    def __init__(self, config: Config, world: World) -> None:
        task = make_task(config)
        model = task.model(world.exchange).to(world.device)
        folder = RunFolder(Path(config.logging.run_dir))
        super().__init__(config, task, model, make_engine(config, Launch(), world), folder, world)
        self.monitor = Monitor(folder, config.logging, config.training.steps, enabled=False)
        self._batches: list[Batch] | None = None
        self._repeats = False
        self._steps.begin(0)

    def repeat(self) -> None:
        """Let all steps from here on have the same batch, and read nothing."""
        self._repeats = True
        vars(self.task)["prefetch"] = lambda step, world: None

    def take(self, steps: int) -> None:
        """Do so many steps, and read figures as often as a log does."""
        with StopRequest(lambda text: None) as stop:
            for _ in range(steps):
                with self.clock.step():
                    self._step(stop)
                if self.step % self.config.logging.log_every == 0:
                    self._require_good_steps()
                    self._read_figures()

    def seconds_of_steps(self, warm_up: int, steps: int, limit: float) -> float:
        """Mean seconds of a step, of so many at most, and so long at most, after some that do not count."""
        self.take(warm_up)
        synchronise(self.world.device)
        begin, done = time.perf_counter(), 0
        while done == 0 or (done < steps and time.perf_counter() - begin < limit):
            some = min(steps - done, self.config.logging.log_every)
            self.take(some)
            done += some
            synchronise(self.world.device)
        return (time.perf_counter() - begin) / done

    def _read_batches(self) -> list[Batch]:
        if not self._repeats or self._batches is None:
            self._batches = super()._read_batches()
        return self._batches
