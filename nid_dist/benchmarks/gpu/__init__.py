"""`gpu`: what one card does, in three minutes: its rates, steps, trainings, fits, and the most experts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from nid_dist.benchmarks.gpu import card, fits, largest, steps, trainings
from nid_dist.benchmarks.gpu.card import CardSizes
from nid_dist.benchmarks.gpu.fits import FitSizes
from nid_dist.benchmarks.gpu.largest import LargestSizes
from nid_dist.benchmarks.gpu.steps import StepSizes
from nid_dist.benchmarks.gpu.timing import TimeBox
from nid_dist.benchmarks.gpu.trainings import TrainingSizes
from nid_dist.device import resolve_device
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table

SECONDS = 170.0
"""That all sections have; what starts before they are over may end a little after."""

EXPECTED = {
    "step_ms_n4096_T64": "<= 0.7",
    "step_ms_n4096_T64_over_dense": ">= 2.5",
    "step_ms_n65536_T64": "<= 1.2",
    "step_ms_n65536_T64_over_dense": ">= 16",
    "quickstart_solve_steps_per_s": ">= 300",
    "quickstart_distill_steps_per_s": ">= 300",
    "quickstart_gate_steps_per_s": ">= 300",
    "images_n65536_steps_per_s": ">= 60",
    "sdf_n4096_steps_per_s": ">= 60",
    "ct_n1024_steps_per_s": ">= 200",
    "gate_patches_per_s": ">= 1000000",
    "ridge_patches_per_s": ">= 400000",
    "omp_patches_per_s": ">= 100000",
    "fista_patches_per_s": ">= 60000",
    "irls8_patches_per_s": ">= 40000",
    "largest_step_ms_n1048576": "<= 100",
    "largest_gb_n1048576": "<= 60",
}
"""Of one H100."""

_COLUMNS = [Column("figure"), Column("value", "", ".4g"), Column("on an H100, expected")]


@dataclass(frozen=True)
class Sizes:
    """Of all sections."""

    card: CardSizes = field(default_factory=CardSizes)
    steps: StepSizes = field(default_factory=StepSizes)
    trainings: TrainingSizes = field(default_factory=TrainingSizes)
    fits: FitSizes = field(default_factory=FitSizes)
    largest: LargestSizes = field(default_factory=LargestSizes)


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure the card that `auto` is; `quick`: each section for a few seconds.

    Raises:
        UserError: where there is none.
    """
    device = require_card()
    return measured(device, Sizes(), SECONDS / 5 if quick else SECONDS)


def require_card() -> torch.device:
    """The card.

    Raises:
        UserError: where there is none.
    """
    device = resolve_device("auto")
    if device.type != "cuda":
        raise UserError("gpu", found=f"the device {device}", expected="a GPU", hint="run it on a machine with one")
    return device


def measured(device: torch.device, sizes: Sizes, seconds: float) -> tuple[dict[str, Any], Table]:
    """Measure a device in about so many seconds; what there is no time for is said, and listed as `skipped`."""
    sections: dict[str, Callable[[TimeBox], Iterator[dict[str, float]]]] = {
        "card": lambda box: card.measure(device, sizes.card, box),
        "steps": lambda box: steps.measure(device, sizes.steps, box),
        "trainings": lambda box: trainings.measure(sizes.trainings, box),
        "fits": lambda box: fits.measure(device, sizes.fits, box),
        "largest": lambda box: largest.measure(sizes.largest, box),
    }
    # Of what the sections before have left.
    shares = {"card": 0.06, "steps": 0.28, "trainings": 0.55, "fits": 0.45, "largest": 1.0}
    box, figures = TimeBox(seconds), dict[str, Any]()
    for name, section in tqdm(sections.items(), unit="section"):
        for found in section(box.part(shares[name])):
            figures |= found
    rows = [[name, value, EXPECTED.get(name, "")] for name, value in figures.items()]
    return figures | {"skipped": box.skipped}, Table(_COLUMNS, rows)
