"""What a solver returns: the codes, how well they fit, and how it went."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.problem import Problem


class Log:
    """How an iteration went: its figures stay on the device until somebody reads one, and then all are fetched."""

    def __init__(self, entries: Sequence[Mapping[str, float | Tensor]] = ()) -> None:
        self._entries = entries

    @cached_property
    def _read(self) -> list[dict[str, float]]:
        waiting = [value.double() for entry in self._entries for value in entry.values() if isinstance(value, Tensor)]
        known = iter(torch.stack(waiting).tolist() if waiting else [])
        return [
            {name: next(known) if isinstance(value, Tensor) else value for name, value in entry.items()}
            for entry in self._entries
        ]

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self._read)

    @overload
    def __getitem__(self, which: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, which: slice) -> list[dict[str, float]]: ...
    def __getitem__(self, which: int | slice) -> dict[str, float] | list[dict[str, float]]:
        return self._read[which]

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True)
class Solution:
    """Codes with their residuals."""

    code: Code  # at most k non-zeros per signal
    residual: Float[Tensor, "T"]  # mean squared error of each signal over measurements and channels
    # one entry per iteration: what it did, and the mean residual after it
    log: Log = field(default_factory=Log)
    # for all signals together, the reduction of the signals included, where they were counted
    seconds: float = field(default=0.0, kw_only=True)


def best_bias(problem: Problem, indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"]) -> Float[Tensor, "T d"]:
    """The bias that makes the residual's mean zero in every channel."""
    return problem.target_means - torch.einsum("tk,tkd->td", values, problem.atom_means[indices])


def residual(problem: Problem, code: Code) -> Float[Tensor, "T"]:
    """Mean squared error of each signal over measurements and channels, in squared units of the signal."""
    centred = (code.weighted_sum(problem.atoms) - problem.targets).square().sum(1)
    offset = (code.bias + code.weighted_sum(problem.atom_means) - problem.target_means).square().sum(1)
    return (centred + problem.constant * offset + problem.residual_floor) / problem.target_means.shape[1]
