"""How many experts train on one card: whole steps in mode `solve`, n doubled until memory or time is short.

h = 256, d = 3, k = 256, on the embedded photographs' 16 x 16 patches; no gate, whose last layer alone is larger.
"""

import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nid_dist.benchmarks.gpu.timing import TimeBox
from nid_dist.benchmarks.gpu.trainings import OFF, Stepper
from nid_dist.config import load_config
from nid_dist.evaluation.measuring import peak_bytes
from nid_dist.memory import out_of_memory
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.setup import open_world

_GIVEN = (
    "coding.support=256",
    "coding.blocks=8",
    "training.batch=64",
    "coding.gate={kind: none}",
    "coding.phases=[{mode: solve}]",
    "dictionary.init=random",  # one that takes no time
)


@dataclass(frozen=True)
class LargestSizes:
    """What is tried."""

    experts: tuple[int, ...] = tuple(2**power for power in range(16, 21))
    overrides: tuple[str, ...] = ()
    steps: int = 10


def measure(sizes: LargestSizes, box: TimeBox) -> Iterator[dict[str, float]]:
    """`largest_n`, and `largest_step_ms_nN`, `largest_gb_nN` of each n: a step, and the most memory of a training."""
    took = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for experts in sizes.experts:
            if not box.admits(f"a training of {experts} experts", 2 * took):
                return
            begin = time.monotonic()
            given = [*_GIVEN, *OFF, *sizes.overrides, f"dictionary.experts={experts}", f"logging.run_dir={folder}/run"]
            try:
                yield {"largest_n": experts, **_trained(given, experts, sizes.steps)}
            except (RuntimeError, MemoryError) as error:
                if out_of_memory(error) is None:
                    raise
                box.skip(f"a training of {experts} experts", "too little memory")
                return
            took = time.monotonic() - begin


def _trained(given: list[str], experts: int, steps: int) -> dict[str, float]:
    found: list[float] = []
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # of the recordings before
    config = load_config("quickstart", given)
    with open_world(config, Launch()) as world:

        def train() -> None:
            trainer = Stepper(config, world)
            trainer.initialise()
            found.append(trainer.seconds_of_steps(5, steps, 2.0))

        peak = peak_bytes(train, world.device)
    return {f"largest_step_ms_n{experts}": 1e3 * found[0], f"largest_gb_n{experts}": peak / 1e9}
