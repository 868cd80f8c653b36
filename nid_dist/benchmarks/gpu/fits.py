"""Fits a second by solver: 16 x 16 colour patches, n = 1024, k = 64, a dictionary as the quickstart begins with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from nid_dist.benchmarks.gpu.timing import TimeBox
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import PreparedDictionary
from nid_dist.config import load_config
from nid_dist.evaluation.measuring import timed
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training.initialization import initialise

METHODS = {"ridge": "ridge", "omp8": "omp8", "omp": "omp", "fista": "fista", "irls8": "irls8"}
"""By the names of their figures: OMP in 8 rounds and atom by atom, IRLS with a support chosen in 8 rounds."""


@dataclass(frozen=True)
class FitSizes:
    """What is fitted."""

    overrides: tuple[str, ...] = ()  # of the quickstart's configuration
    most: int = 8192  # patches
    first: int = 512  # of them, by which a method's speed is guessed
    seconds: float = 1.5  # that a method takes, about


def measure(device: torch.device, sizes: FitSizes, box: TimeBox) -> Iterator[dict[str, float]]:
    """`NAME_patches_per_s` of the gate alone, and of each method with all that it needs."""
    config = load_config("quickstart", [*sizes.overrides, "logging.progress=false"])
    task = ImageTask(config)
    model = task.model().to(device)
    initialise(model, task, World(Topology(config.dictionary.experts), device=device))
    model.synchronise_gate()
    values = task.sample(sizes.most).values.to(device)
    measurement = Sampling(model.coords)
    prepared = PreparedDictionary(model.dictionary, measurement)

    def fit(patches: torch.Tensor, method: Method) -> object:
        return fit_signals(model, measurement, patches, [method], prepared=prepared)

    runs: dict[str, Callable[[torch.Tensor], object]] = {"gate": model.encode}
    runs |= {name: partial(fit, method=Method.of(label)) for name, label in METHODS.items()}
    for name, run in runs.items():
        if not box.admits(f"fits by {name}", sizes.seconds):
            continue
        run(values[: sizes.first])
        _, guess = timed(partial(run, values[: sizes.first]), device)
        count = max(sizes.first, min(len(values), int(sizes.first * sizes.seconds / guess)))
        if not box.admits(f"fits by {name}", count / sizes.first * guess):
            continue
        _, seconds = timed(partial(run, values[:count]), device)
        yield {f"{name}_patches_per_s": count / seconds}
