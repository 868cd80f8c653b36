"""An image's codes in few bytes: how coarse the steps may be, and the file that holds them.

`nid-fit --store compact` writes one for each solver, `SOLVER.nidc`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nid_dist.coding.quantization import PRICE, Quantized, Quantizer
from nid_dist.coding.solvers import Problem, reduce_problem, solve_omp
from nid_dist.compact.file import save_compact
from nid_dist.compact.stream import Symbols
from nid_dist.device import Stopwatch, to_device
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.sampling import Sampling
from nid_dist.tasks.images.fit import ImageArray, ImageFit

LOSS = 0.1
"""dB that steps which nobody has chosen may cost."""

_TURNS = 12  # of the search for a step
_FINEST, _COARSEST = 2.0**-14, 2.0  # of steps, in what they change of a patch; the image's range is 1
_BETTER = 10**-0.25  # of the mean squared error asked for, that the pursuit goes to: the rest is for the steps
_SIGNALS = 64  # whose pursuits are together: they end together
_RIDGE = 1e-6
_AT_ONCE = 4  # atoms that are chosen together, which costs one or two per cent of the bytes and saves two thirds


@dataclass(frozen=True)
class Compactness:
    """What is asked for: the one that is not None, or neither, for a loss of `LOSS`."""

    step: float | None = None  # of coefficients
    psnr: float | None = None  # dB that the image is to have, by omp with as many atoms as that takes


@dataclass(frozen=True)
class Compact:
    """An image as it comes back."""

    fit: ImageFit  # of quantised codes
    quantized: Quantized
    picture: ImageArray  # rendered
    psnr: float  # in dB


def compact(fit: ImageFit, asked: Compactness) -> Compact:
    """Quantise the codes of a fit.

    Raises:
        UserError: for a PSNR by another solver than omp.
    """
    watch = Stopwatch(fit.model.device)
    found = _compact(fit, asked)
    solution = replace(found.fit.solution, seconds=fit.seconds + watch.seconds())
    return replace(found, fit=replace(found.fit, solution=solution))


def _compact(fit: ImageFit, asked: Compactness) -> Compact:
    if asked.psnr is not None:
        if fit.method.name != "omp":
            raise UserError(
                "a PSNR to reach",
                found=f"for the solver {fit.method.label}",
                expected="omp, which chooses as many atoms as it takes",
                hint="choose omp, or a step",
            )
        return Compactor.to_reach(fit, asked.psnr).reaching(asked.psnr)
    compactor = Compactor(fit)
    if asked.step is not None:
        return compactor.at(asked.step)
    return compactor.reaching(fit.psnr - LOSS)


class Compactor:
    """Quantises the codes of one fit, as finely as it is told; `price`: of a coefficient, as for `Quantizer.at`."""

    def __init__(self, fit: ImageFit, quantizer: Quantizer | None = None, price: float = 0.0) -> None:
        self._fit, self._price = fit, price
        ordered = fit.method.name == "omp" and not fit.method.steps
        self._quantizer = quantizer or Quantizer(_problem(fit), [fit.code], ordered=ordered)

    @classmethod
    def to_reach(cls, fit: ImageFit, decibels: float) -> "Compactor":
        """Of codes of as many atoms as a PSNR takes, instead of the fit's own."""
        problem = _problem(fit)
        most = min(problem.atoms.shape)
        error = _BETTER * 10 ** (-decibels / 10)
        parts = (problem.signals(slice(first, first + _SIGNALS)) for first in range(0, len(problem.targets), _SIGNALS))
        rounds = max(1, most // _AT_ONCE)
        codes = [solve_omp(part, most, rounds, _RIDGE, error).code for part in parts]
        return cls(fit, Quantizer(problem, codes, ordered=True), PRICE)

    def at(self, step: float) -> Compact:
        """With a step."""
        quantized = self._quantizer.at(step, self._price)
        code = quantized.code.to(self._fit.code.device)
        fit = replace(self._fit, solution=replace(self._fit.solution, code=code))
        picture = fit.render()
        return Compact(fit, quantized, picture, psnr(picture, fit.image))

    def reaching(self, decibels: float) -> Compact:
        """With the largest step that leaves a PSNR; where none does, the finest."""
        unit = self._quantizer.unit
        low, high = _FINEST * unit, _COARSEST * unit
        best = self.at(low)
        for _ in range(_TURNS):
            middle = (low * high) ** 0.5
            found = self.at(middle)
            if found.psnr >= decibels:
                best, low = found, middle
            else:
                high = middle
        return best


def write_compact(path: Path, found: Compact, **facts: object) -> int:
    """Write the file, with what it takes to make the image of it; returns its bytes."""
    quantized, own = found.quantized, facts_of(found)
    symbols = Symbols(quantized.values, quantized.biases)
    return save_compact(path, symbols, quantized.step, quantized.bias_step, {**own, **facts})


def facts_of(found: Compact) -> dict[str, Any]:
    """What it takes to make the image of the codes."""
    tiling = found.fit.tiling
    named = {name: getattr(tiling, name) for name in ("height", "width", "patch", "stride")}
    return {"methods": [found.fit.method.label], "columns": len(tiling.cols), **named}


def _problem(fit: ImageFit) -> Problem:
    device, coords = fit.model.device, fit.tiling.coords
    values = fit.tiling.split(to_device(torch.tensor(fit.image), device))
    return reduce_problem(fit.model.dictionary, Sampling(coords.to(device)), values)
