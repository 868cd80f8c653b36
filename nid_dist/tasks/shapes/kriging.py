"""A cloud's code and the detail beside it: how fine, how smooth, and how far the dictionary is trusted.

The trend is the dictionary's robust fit. What it leaves over of the points and their normals is said by `refine`. The
points themselves decide between choices: of every fifth of them, both parts are fitted without, how well are they met?
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.detail.detail import Detail
from nid_dist.model import Model
from nid_dist.tasks.shapes.refinement import Told, prepare, refine, solve

_COARSE = (32, 64)  # cells along the cube, of the grids that choices are made on
_FINEST = 256
_SPACING = 3.0  # cells of the finest grid between points
# The roughness that clean points of a spacing s need is this times s^4, as of any quantity with the units of a length
# squared times a second derivative squared; noise needs more.
_SMOOTH = 1e-2
_SMOOTHER = 10.0  # from one choice to the next
_CHOICES = 5
_BETTER = 0.9  # of the error on points left out, at which another choice is taken
_STEPS_ASIDE = 0.7  # of the error with the dictionary: where that without it is less, it steps aside
_NORMAL = 0.5  # times the spacing: the length over which a gradient counts as a value
_OFF = 0.2  # of all points off the surface together, relative to those on it
_FOLD = 5
_FAR = 0.7  # f without a dictionary, where nothing is measured: outside, in units of the truncation


@dataclass(frozen=True)
class Oriented:
    """What a cloud says of f, in units of the truncation: 0 on the points, its gradient there, its values elsewhere."""

    points: Float[Tensor, "P 3"]
    gradients: Float[Tensor, "P 3"] | None  # None: not known
    weights: Float[Tensor, "P"]  # of the points, relative to each other: how many each stands for
    off: Float[Tensor, "O 3"]  # off the surface
    off_values: Float[Tensor, "O"]
    spacing: float  # between points

    def told(self) -> Told:
        """The same of all of f."""
        share = self.weights / self.weights.sum()
        zero = torch.zeros_like(self.points)
        per_off = _OFF / max(len(self.off), 1)
        return Told(
            torch.cat([self.points, self.off]),
            torch.cat([zero[:, 0], self.off_values]),
            torch.cat([share, torch.full_like(self.off_values, per_off)]),
            zero if self.gradients is None else self.gradients,
            0 * share if self.gradients is None else share * (_NORMAL * self.spacing) ** 2,
        )


@dataclass(frozen=True)
class Kriged:
    """A code with its detail, and what was chosen."""

    code: Code
    trusted: bool  # whether the dictionary has a part in it
    roughness: float
    residual: float  # of the equations for the detail, relative
    iterations: int


def krige(
    model: Model, code: Code, without: Code, kept: Bool[np.ndarray, "P"], some: Oriented, known: Oriented
) -> Kriged:
    """Add what a code leaves over to it as detail.

    Args:
        code: of the dictionary alone, fitted to all points.
        without: fitted to those of `some` points only that are `kept`: choices are fitted to these, and judged on the
            others.
        some: what some of the cloud's points say.
        known: what all of it says.
    """
    told, mask = some.told(), torch.from_numpy(kept).to(known.points.device)
    smooth = _SMOOTH * some.spacing**4
    partial = {True: leftover(model, without, told), False: leftover(model, alone(without), told)}

    fitted = {part: rest.rows(mask) for part, rest in partial.items()}
    levels = list(prepare(fitted[True], _COARSE))  # all choices are made at the same points

    def missed(trusted: bool, roughness: float) -> float:
        found = solve(fitted[trusted], levels, roughness).detail
        return _missed(found, partial[trusted].rows(~mask, others=False))

    errors = {trusted: missed(trusted, smooth) for trusted in (True, False)}
    trusted = errors[False] >= _STEPS_ASIDE * errors[True]
    best, error = smooth, errors[trusted]
    for _ in range(_CHOICES):
        tried = missed(trusted, _SMOOTHER * best)
        if tried > _BETTER * error:
            break
        best, error = _SMOOTHER * best, tried
    trend = code if trusted else alone(code)
    if best == smooth:  # no noise is seen: closer points need less
        best = _SMOOTH * known.spacing**4
    refined = refine(leftover(model, trend, known.told()), _cells(known.spacing), best)
    return Kriged(replace(trend, detail=refined.detail), trusted, best, refined.residual, refined.iterations)


def alone(code: Code) -> Code:
    """A code in which no expert has a part: f is constant, outside."""
    return replace(code, values=torch.zeros_like(code.values), bias=torch.full_like(code.bias, _FAR))


def folds(count: int) -> Bool[np.ndarray, "P"]:
    """Which of some points, in any order, choices are fitted to."""
    kept: np.ndarray = np.random.default_rng(0).permutation(count) % _FOLD > 0
    return kept


def _cells(spacing: float) -> tuple[int, ...]:
    """Of the grids, from coarse to fine."""
    cells = list(_COARSE)
    while cells[-1] < _FINEST and 2 / cells[-1] > spacing / _SPACING:
        cells.append(2 * cells[-1])
    return tuple(cells)


def _missed(detail: Detail, left: Told) -> float:
    """How far values and gradients at points that were left out are missed, cut where f is."""
    values = (detail(left.coords)[0, :, 0] - left.values).square().clamp_max(1)
    weight = left.weights / left.weights.sum()
    error = (weight * values).sum()
    if bool((left.gradient_weights > 0).any()):
        at = left.coords
        found = torch.stack([_slope(detail, at, axis) for axis in range(3)], 1)
        error = error + (left.gradient_weights / left.weights.sum() * (found - left.gradients).square().sum(1)).sum()
    return float(error)


def _slope(detail: Detail, coords: Float[Tensor, "C 3"], axis: int) -> Float[Tensor, "C"]:
    step = torch.zeros(3, device=coords.device)
    step[axis] = 0.5 * detail.grids[-1].step[0]
    return (detail(coords + step) - detail(coords - step))[0, :, 0] / (2 * float(step[axis]))


def leftover(model: Model, code: Code, told: Told) -> Told:
    """What the dictionary's part of a code leaves of values and gradients."""
    count, at_once = len(told.gradients), 2**14
    varies = bool(code.values.any())
    values, gradients = [], []
    for first in range(0, len(told.coords), at_once):
        coords = told.coords[first : first + at_once].detach().requires_grad_(True)
        with torch.enable_grad():
            found = model.dictionary(code, coords)[0, :, 0]
            if first < count and varies:
                gradients.append(torch.autograd.grad(found.sum(), coords)[0])
            else:
                gradients.append(torch.zeros_like(coords))
        values.append(found.detach())
    known = torch.cat(gradients)[:count]
    return replace(told, values=told.values - torch.cat(values), gradients=told.gradients - known)
