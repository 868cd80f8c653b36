"""Faults from within that only tests have a use for, called in a process of a training before it begins."""

import os
import signal
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from nid_dist.cli import entry
from nid_dist.parallel.launch import rendezvous as joining
from nid_dist.training import step as steps
from nid_dist.training.step import TrainingStep


def diverge(step: int, loss: float | None) -> None:
    """Let this process's part of a step's loss be such a number; None: codes cannot be solved."""
    run, calls, plain = TrainingStep.run, [], dict(steps.LOSSES)

    def counted(self: TrainingStep, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == step and loss is None:
            raise torch.linalg.LinAlgError("not positive-definite")
        return run(self, *arguments, **options)

    def spoilt(mode: str, *arguments: Any) -> Any:
        found = plain[mode](*arguments)
        # The number is this process's alone: all gradients are finite.
        return found if len(calls) != step or loss is None else replace(found, total=found.total + loss)

    TrainingStep.run = counted  # type: ignore[method-assign]
    steps.LOSSES |= {mode: partial(spoilt, mode) for mode in plain}


def die_forming() -> None:
    """Be killed where the others begin to form a further group with this process."""

    def new_group(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    dist.new_group = new_group


def hurry() -> None:
    """Wait a second for the program that listens where the first process should, and for that to say so."""
    joining._LOOK_UP = entry._WORD = 1.0
