"""Codes of few bits: coefficients that are multiples of a step, each chosen knowing how the others were rounded.

Rounded one by one, errors of atoms that look alike add up. Here a signal's atoms are made orthogonal, one after the
other as they were chosen, and rounded from the last to the first, each making up for those before: Babai's nearest
plane (Babai 1986). With a price for a coefficient a signal keeps as many of its first ones as are worth it (Sullivan
and Wiegand 1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from nid_dist.code import Code, dequantized
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import best_bias

PRICE = 0.25
"""Of a coefficient, in squares of a step: found on photographs kept for validation."""

_ROOM = 2**26  # numbers that are kept of the signals' least squares; the others' are found anew each time
_ZERO = 0.6  # in steps: what is smaller becomes 0, which costs less than 1


@dataclass(frozen=True)
class Quantized:
    """Codes in units of their steps."""

    values: Int64[np.ndarray, "T n"]  # zero where there is no coefficient
    biases: Int64[np.ndarray, "T d"]
    step: float  # of values
    bias_step: float

    @property
    def code(self) -> Code:
        """As many coefficients as the longest has, experts ascending; zeros fill up the others."""
        return dequantized(self.values, self.biases, self.step, self.bias_step)


_Factors = tuple[Int64[np.ndarray, "k"], Float64[np.ndarray, "k k"], Float64[np.ndarray, "k"]]
"""Of a signal: its atoms, and triangle and target of the least squares in their orthogonal directions."""


class Quantizer:
    """Quantises codes of a problem, by any step, having looked at their atoms once while there is room.

    Args:
        problem: whose targets the codes are for.
        codes: sparse, of the signals in order, some together; coefficients in the order in which they matter, or
            `ordered` false: the largest first.
    """

    def __init__(self, problem: Problem, codes: Sequence[Code], *, ordered: bool) -> None:
        self._problem, self._energy = problem, float(problem.energy)
        self._atoms, self._targets = problem.atoms.double().cpu(), problem.targets.double().cpu()
        self._chosen: list[Int64[Tensor, "k"]] = []
        norms = self._atoms.norm(dim=1)
        for code in codes:
            assert code.indices is not None
            for values, indices in zip(code.values.cpu(), code.indices.cpu(), strict=True):
                chosen = indices[values != 0]
                if not ordered:
                    chosen = chosen[(values[values != 0].double().abs() * norms[chosen]).argsort(descending=True)]
                self._chosen.append(chosen)
        self._kept: dict[int, _Factors] = {}
        self._room = _ROOM

    @property
    def unit(self) -> float:
        """The step of a coefficient that changes a signal by one, as a root mean square."""
        return self._energy**-0.5

    def at(self, step: float, price: float = 0.0) -> Quantized:
        """Quantise by a step, of coefficients; of biases it is one that costs as much error."""
        scale = step / self.unit
        values = np.zeros((len(self._chosen), len(self._atoms)), np.int64)
        for signal, row in enumerate(values):
            chosen, triangle, target = self._factors(signal)
            kept = _worth(target, price * scale**2)
            row[chosen[:kept]] = _nearest_plane(triangle[:kept, :kept], target[:kept], step)
        code = dequantized(values, np.zeros((len(values), 1), np.int64), step, 1.0)
        assert code.indices is not None
        device = self._problem.atoms.device
        bias = best_bias(self._problem, code.indices.to(device), code.values.to(device)).double().cpu().numpy()
        bias_step = scale / max(float(self._problem.constant), 1e-12) ** 0.5
        return Quantized(values, np.rint(bias / bias_step).astype(np.int64), step, bias_step)

    def _factors(self, signal: int) -> _Factors:
        if signal in self._kept:
            return self._kept[signal]
        chosen = self._chosen[signal]
        basis, triangle = torch.linalg.qr(self._atoms[chosen].t())
        found = chosen.numpy(), triangle.numpy(), (basis.t() @ self._targets[signal]).numpy()
        if triangle.numel() <= self._room:
            self._kept[signal] = found
            self._room -= triangle.numel()
        return found


def _worth(target: Float64[np.ndarray, "k"], price: float) -> int:
    """How many of the first coefficients make the error and their price together the least."""
    left = np.concatenate([np.cumsum(np.square(target)[::-1])[::-1], [0.0]])
    return int(np.argmin(left + price * np.arange(len(left))))


def _nearest_plane(
    triangle: Float64[np.ndarray, "k k"], target: Float64[np.ndarray, "k"], step: float
) -> Int64[np.ndarray, "k"]:
    """Whole numbers q, for which step * triangle @ q is near the target."""
    left, found = target / step, np.zeros(len(target), np.int64)
    for place in range(len(target) - 1, -1, -1):
        pivot = triangle[place, place]
        wanted = left[place] / pivot if pivot else 0.0
        found[place] = 0 if abs(wanted) < _ZERO else round(wanted)
        if found[place]:
            left = left - found[place] * triangle[:, place]
    return found
