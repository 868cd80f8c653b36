"""What benchmarks share: timing side by side on a machine that may be busy, comparisons, and silent trainings."""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from nid_dist.comparison.runner import Results, run
from nid_dist.evaluation.measuring import timed
from nid_dist.tasks.comparison import Comparison

_CPU = torch.device("cpu")
QUIET = (
    "training.eval_every=0",
    "training.checkpoint_every=0",
    "logging.pictures_every=0",
    "logging.tensorboard=false",
    "logging.progress=false",
)
"""Overrides of a training that only its time or its end matters of."""


def alternate(
    variants: Mapping[str, Callable[[], object]], repeats: int = 7, warm_up: int = 1, device: torch.device = _CPU
) -> dict[str, float]:
    """Median seconds of each variant, run in turns so that what else the machine does hits all alike.

    `repeats` timed runs of each follow `warm_up` untimed ones.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warm_up + repeats):
        for name, variant in variants.items():
            seconds = timed(variant, device)[1]
            if turn >= warm_up:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(comparison: Comparison, path: Path) -> Results:
    """Run the comparison of a file for its figures alone."""
    with tempfile.TemporaryDirectory() as folder:
        return run(comparison, path, Path(folder))
