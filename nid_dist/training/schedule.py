"""Where a training is: its phase, and the learning rate there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nid_dist.config.schema import Config, Optimizer, Phase


@dataclass(frozen=True)
class Position:
    """A point of the training."""

    index: int  # which phase
    phase: Phase  # its configuration
    progress: float  # the share of the phase that is done, in [0, 1)


def position(phases: list[Phase], done: float) -> Position:
    """The phase after a share in [0, 1) of the whole training; the phases' shares are relative to each other."""
    total = sum(phase.share for phase in phases)
    start = 0.0
    for index, phase in enumerate(phases):
        length = phase.share / total
        # The tolerance keeps a step that lies on a border, up to rounding, in the later phase.
        if done + 1e-9 < start + length or index == len(phases) - 1:
            return Position(index, phase, min(max((done - start) / length, 0.0), 1.0))
        start += length
    raise AssertionError("phases are never empty")


def rate_factor(config: Optimizer, steps_in_phase: int, progress: float) -> float:
    """The factor on the learning rate: linear warm-up at the start of every phase, then the schedule's decay."""
    warm = min(1.0, (steps_in_phase + 1) / (config.warmup_steps + 1))
    if config.schedule == "cosine":
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
    if config.schedule == "linear":
        return warm * max(0.01, 1 - progress)
    return warm


def set_rates(groups: Sequence[dict[str, Any]], config: Optimizer, factor: float) -> dict[str, float]:
    """Give an optimiser's groups their rates times a factor: the rates, by the groups' names."""
    rates = {"experts": config.lr * factor, "trunk": config.trunk_lr * factor, "gate": config.gate_lr * factor}
    for group in groups:
        rate = torch.tensor(rates[group["name"]], dtype=torch.float32)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate.item())
        else:
            group["lr"] = rate.item()  # of as many digits as a GPU's: all devices take the same steps
    return rates


def in_phase(config: Config, phase: Phase) -> Config:
    """The configuration as a phase changes it: its loss may be another."""
    if phase.loss is None:
        return config
    return config.model_copy(update={"objective": config.objective.model_copy(update={"loss": phase.loss})})
