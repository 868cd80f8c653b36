"""How far a training is, in steps and in time: `training.max_seconds` bounds the whole run, not its steps alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nid_dist.config.schema import Training

REHEARSAL = 0.25
"""The share of the time after which the end is tried out, where nobody knows yet how long it takes."""


@dataclass
class Progress:
    """Where the training is; everything besides tensors that a checkpoint must hold."""

    step: int = 0
    phase: int = -1
    phase_start: int = 0
    seconds: float = 0.0  # of the steps
    elapsed: float = 0.0  # of all: initial values, steps, evaluations, checkpoints
    ending: float = 0.0  # that what follows the last step takes, as it was measured; 0: not yet

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Progress":
        """As a checkpoint holds it; older ones know the time of the steps alone."""
        return cls(**{"elapsed": facts["seconds"], **facts})

    def done(self, training: Training) -> float:
        """The share of the training that is done, 1 at its end: of the steps, or of the time that they have.

        At least one step is made, whatever the time.
        """
        share = self.step / training.steps
        if training.max_seconds is None or self.step == 0:
            return share
        left = training.max_seconds - self.elapsed - self.ending
        return max(share, self.seconds / (self.seconds + left)) if left > 0 else 1.0

    def must_rehearse(self, training: Training) -> bool:
        """Whether it is time to find out how long the end takes."""
        bound = training.max_seconds
        return bound is not None and not self.ending and self.elapsed >= REHEARSAL * bound
