"""Step times of real trainings on the embedded photographs, in processes of this machine with one thread each."""

import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nid_dist.benchmarks.harness import QUIET
from nid_dist.config import load_config
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.world import JSON
from nid_dist.training.run import train

CONFIG = "quickstart"
MODES = {
    "solve": ("coding.phases=[{mode: solve}]",),
    "distill": ("coding.phases=[{mode: distill}]", "coding.gate={kind: unrolled}"),
    "gate": ("coding.phases=[{mode: gate}]", "coding.gate={kind: light}"),
}
"""By mode of training, what is set: the quickstart's, distillation of a gate of learned operators, and the paper's."""

TINY = ("dictionary={experts: 32, width: 16, encoding: {features: 8}}", "coding.support=4", "signals.limit=1")
"""To see that it works."""

_SKIPPED = 5  # first steps, in which memory is still being taken and files are read
_COMMON = (
    # No time is spent on resizing, nor on initial values and the last evaluation: a step costs the same.
    "signals.short_side=null",
    "signals.crop=128",
    "signals.val=[chelsea]",
    "signals.test=[retina, hubble_deep_field, stereo_motorcycle]",
    "training.threads=1",
    "training.batch=128",
    "coding.prior_rank=0",
    "logging.log_every=1",
    *QUIET,
)


@dataclass(frozen=True)
class Training:
    """A training to be timed."""

    processes: int  # that are started for it
    overrides: tuple[str, ...]  # of the quickstart's configuration
    independent: bool = False  # whether each process trains by itself and knows nothing of the others


def step_seconds(trainings: Mapping[str, Training], steps: int, rounds: int) -> dict[str, float]:
    """Median seconds of a step of each training, all of them run in turns.

    Every run has new processes: one that follows others in their process finds memory as they have left it, and was
    measured to take up to a quarter longer. The log says what steps took, without evaluation, checkpoints and logging.

    Args:
        trainings: what to run, by name.
        steps: of each run that count; a few more come before.
        rounds: runs of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for name in tqdm([*trainings] * rounds, unit="run"):
        training = trainings[name]
        with tempfile.TemporaryDirectory() as folder:
            found: Any = run_local(run_steps, training.processes, training, folder, steps + _SKIPPED)
        seconds[name] += found[0]
    return {name: statistics.median(some) for name, some in seconds.items()}


def run_steps(launch: Launch, training: Training, folder: str, steps: int) -> JSON:
    """A training, in one of its processes, with its run below `folder`: the seconds of its steps but the first ones."""
    run = Path(folder, f"run-{launch.rank}" if training.independent else "run")
    given = [f"training.steps={steps}", f"logging.run_dir={run}"]
    config = load_config(CONFIG, [*_COMMON, *training.overrides, *given])
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        train(config, launch=Launch() if training.independent else launch)
    seconds: JSON = _steps(run / "log.jsonl")[_SKIPPED:]
    return seconds


def _steps(log: Path) -> list[float]:
    """Seconds of every step, from the mean over the steps so far that each line of the log has."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    totals = [0.0] + [line["step"] * line["ms_per_step"] / 1e3 for line in lines if line["event"] == "train"]
    return [after - before for before, after in pairwise(totals)]
