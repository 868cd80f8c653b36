"""Trainings under real launchers: run to their end, and what comes of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nid_dist.benchmarks.faults.jobs import BIN, Outcome
from nid_dist.benchmarks.faults.processes import losses
from nid_dist.training.run import train
from tests.tiny import tiny, write_sizes

ROOT = Path(__file__).parents[2]
TRAIN = str(ROOT / "launch" / "train.py")
STEPS, LONG = 8, 40
# Neither the schedule nor the phase depends on how many steps there will be.
SETTINGS = ["coding.phases=[{mode: gate}]", "optimizer.schedule=constant", "parallel.timeout_seconds=60.0"]


def launcher(name: str) -> str:
    """The path of a program beside Python."""
    path = BIN / name
    if not path.exists():
        pytest.skip(f"{name} is not installed in {BIN}")
    return str(path)


def arguments(images: Path, run: Path, *settings: str, steps: int = STEPS) -> list[str]:
    """Those of a short training."""
    own = [f"signals.path={images}", f"logging.run_dir={run}", f"training.steps={steps}", *SETTINGS, *settings]
    return ["--config", str(write_sizes(images, ".tiny.yaml")), "--set", *own]


def losses_alone(images: Path, folder: Path) -> list[float]:
    """Those of one process."""
    train(tiny(images, folder / "alone", *SETTINGS, f"training.steps={LONG}"))
    return [loss for _, loss in losses(folder / "alone")]


def assert_trained(outcome: Outcome, run: Path, alone: Sequence[float], steps: int = STEPS) -> None:
    """Every step, once, with the loss of one process; said by one of the processes, and nothing else."""
    assert set(outcome.codes) == {0}, outcome.err
    assert outcome.out.count(f"trained {steps} steps") == 1 and outcome.err.count("experts in total") == 1
    # Launchers may have words of their own about a store that has gone.
    # A node whose own name leads to itself alone, as Debian has it, has its store listen everywhere, and says so.
    said = [line for line in outcome.err.splitlines() if "nid-train: " in line and " leads to 127." not in line]
    assert said == [], outcome.err
    found = losses(run)
    assert [step for step, _ in found] == list(range(1, steps + 1))
    assert [loss for _, loss in found] == pytest.approx(alone[:steps], rel=1e-4)


def placed(run: Path) -> tuple[int, int]:
    """How many processes there were, and how many of them shared one set of experts."""
    placement = json.loads((run / "placement.json").read_text())
    return placement["world_size"], placement["expert_parallel_size"]
