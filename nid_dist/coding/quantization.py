"""Codes of few bits: coefficients that are multiples of a step, each chosen knowing how the others were rounded.

Rounded one by one, errors of atoms that look alike add up. Here a signal's atoms are made orthogonal, one after the
other as they were chosen, and rounded from the last to the first, each making up for those before: Babai's nearest
plane (Babai 1986). With a price for a coefficient a signal keeps as many of its first ones as are worth it (Sullivan
and Wiegand 1998).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from nid_dist.code import Code, dequantized
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import best_bias

PRICE = 0.25
"""Of a coefficient, in squares of a step: found on photographs kept for validation."""

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


class Quantizer:
    """Quantises codes of a problem, by any step, having looked at their atoms once.

    Args:
        problem: whose targets the codes are for.
        code: sparse; its coefficients in the order in which they matter, or `ordered` false: the largest first.
    """

    def __init__(self, problem: Problem, code: Code, *, ordered: bool) -> None:
        assert code.indices is not None
        self._problem, self._experts = problem, len(problem.atoms)
        atoms = problem.atoms.double().cpu()
        self._energy = float(problem.energy)
        targets, norms = problem.targets.double().cpu(), atoms.norm(dim=1)
        self._signals: list[tuple[Int64[np.ndarray, "k"], Float64[np.ndarray, "k k"], Float64[np.ndarray, "k"]]] = []
        for values, indices, target in zip(code.values.cpu(), code.indices.cpu(), targets, strict=True):
            chosen = indices[values != 0]
            if not ordered:
                chosen = chosen[(values[values != 0].double().abs() * norms[chosen]).argsort(descending=True)]
            basis, triangle = torch.linalg.qr(atoms[chosen].t())
            self._signals.append((chosen.numpy(), triangle.numpy(), (basis.t() @ target).numpy()))

    def at(self, step: float, price: float = 0.0) -> Quantized:
        """Quantise by a step, of coefficients; of biases it is one that costs as much error."""
        scale = step * self._energy**0.5
        values = np.zeros((len(self._signals), self._experts), np.int64)
        for row, (chosen, triangle, target) in zip(values, self._signals, strict=True):
            kept = _worth(target, price * scale**2)
            row[chosen[:kept]] = _nearest_plane(triangle[:kept, :kept], target[:kept], step)
        code = dequantized(values, np.zeros((len(values), 1), np.int64), step, 1.0)
        assert code.indices is not None
        device = self._problem.atoms.device
        bias = best_bias(self._problem, code.indices.to(device), code.values.to(device)).double().cpu().numpy()
        bias_step = scale / max(float(self._problem.constant), 1e-12) ** 0.5
        return Quantized(values, np.rint(bias / bias_step).astype(np.int64), step, bias_step)


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
