"""Whether a fit is to be trusted: how well it explains what was measured, and how far it lies from what was learned.

A dictionary that is given something unlike its training signals still gives an answer; only these two numbers say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.prior import Prior
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.memory import floats_at_once

UNEXPLAINED = 10.0
"""A residual of so many times that of validation signals is doubted."""
BEYOND_NOISE = 3.0
"""A residual of so many times what noise would leave is doubted: noise does not vary as signals do."""
FAR = 3.0
"""A signal of so many times a validation signal's distance from the mean is doubted."""
_FLOATS = 2**24  # of merged heads at a time


@dataclass(frozen=True)
class Judgement:
    """What speaks for and against a fit."""

    residual: float  # root mean square of what f leaves of the measurements, in their units
    expected: float | None = None  # the same, as it should be; None: nobody knows
    against: str = "the validation data's"  # whose residual the expected one is
    distance: float | None = None  # of the merged heads from the prior's mean, relative to validation signals
    limit: float = UNEXPLAINED  # of the residual as a multiple of the expected one
    remarks: tuple[str, ...] = ()  # further reasons for doubt, each a clause
    notes: tuple[str, ...] = ()  # what else there is to know, each a clause

    @property
    def times(self) -> float | None:
        """The residual as a multiple of the expected one."""
        return self.residual / self.expected if self.expected else None

    @property
    def doubts(self) -> list[str]:
        """Why the result should not be trusted, clause by clause; empty where nothing speaks against it."""
        found = []
        if self.times is not None and self.times >= self.limit:
            found.append(f"the residual is {self.times:.0f} times {self.against}")
        if self.distance is not None and self.distance >= FAR:
            found.append(f"it lies {self.distance:.1f} times as far from the mean as the validation data")
        return [*found, *self.remarks]

    @property
    def line(self) -> str:
        """All of it in one line."""
        words = f"explained to {self.residual:.3g} rms"
        if self.times is not None:
            words += f", {self.times:.2g} times {self.against}"
        if self.distance is not None:
            words += f"; {self.distance:.2g} times as far from the mean as the validation data"
        return "; ".join([words, *self.notes])

    def facts(self) -> dict[str, Any]:
        """For a file of figures."""
        return {
            "residual_rms": self.residual,
            "expected_rms": self.expected,
            "times_expected": self.times,
            "distance": self.distance,
            "doubts": self.doubts,
            "notes": list(self.notes),
        }


@torch.no_grad()
def distances(dictionary: Dictionary, prior: Prior | None, code: Code) -> Float[Tensor, "T"] | None:
    """How far signals lie from the training signals' mean: root mean square scores along the prior's directions.

    About 1 for the signals that the prior was learned from, and more for others, the more the fewer those were; None
    without a prior.
    """
    heads = dictionary.experts
    if prior is None or not isinstance(heads, LinearHeads):
        return None
    basis, spread = prior.basis.to(code.bias), prior.variances.sqrt().to(code.bias)
    rows = max(1, floats_at_once(code.device, _FLOATS) // len(basis))
    found = []
    for first in range(0, code.signals, rows):
        part = code.rows(slice(first, first + rows))
        merged = heads.merge(part)
        merged[:, len(basis) - dictionary.channels :] += part.bias
        found.append((((merged - prior.mean.to(merged)) @ basis) / spread).square().mean(1).sqrt())
    return torch.cat(found)


def from_db(figures: dict[str, float], names: Sequence[str]) -> float | None:
    """The root mean square error that a peak signal-to-noise ratio means, of the first figure that is there."""
    return next((10 ** (-figures[name] / 20) for name in names if name in figures), None)
