"""Robust fits by iteratively reweighted least squares: outliers, be it a scratch or a passer-by, lose their weight."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.design import KEPT, Design, MeasuredAtoms
from nid_dist.coding.solvers.ridge import refuse_singular
from nid_dist.coding.solvers.solution import Log, Solution
from nid_dist.coding.solvers.weighted import select_weighted
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

RobustLoss: TypeAlias = Literal["l2", "l1", "huber", "tukey", "welsch"]
_RESELECT = (0, 2, 5, 10)  # before these iterations the supports are chosen anew: outliers misled the first choice
_ASK = 8  # iterations, after which a GPU is asked whether all signals have settled
_SMOOTHING = 1e-3  # of the absolute value, relative to the largest residual's scale


@dataclass(frozen=True)
class RobustSolution(Solution):
    """A `Solution` with what became of the measurements."""

    # Of each measurement, 0 for what was masked; robust ones lie in [0, 1].
    weights: Float[Tensor, "T M"] = field(default_factory=lambda: torch.zeros(0, 0))
    # Of the residuals, the loss's delta point, in the signal's units.
    scale: Float[Tensor, "T"] = field(default_factory=lambda: torch.zeros(0))


@torch.no_grad()
@full_precision()
def solve_irls(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "T M d"],
    k: int,
    *,
    loss: RobustLoss = "l1",
    scale: float | None = None,
    weights: Float[Tensor, "T M"] | None = None,
    indices: Int[Tensor, "T k"] | None = None,
    blocks: int | None = 8,
    ridge: float = 1e-5,
    iterations: int = 30,
    tolerance: float = 1e-3,
) -> RobustSolution:
    """Minimise sum_i m_i rho(|r_i| / s) over codes of k coefficients, r the residuals (Holland and Welsch 1977).

    |r_i| is the root mean square over the channels of a measurement: they are trusted together. The redescending
    losses, which forget outliers altogether, start from the convex one's result. The solution's residuals are under m,
    and its log has the mean of |r| per iteration.

    s is where Huber's loss turns linear, and Tukey's (biweight) and Welsch's turn down; None: for each signal 1.345,
    4.685 or 2.985 times its residuals' spread (1.4826 times their median): 95 % efficiency on Gaussians. m is 0 where a
    measurement is missing; None: one. Supports that are not given are chosen, and chosen again while weights settle. It
    ends for a signal when no residual moves by more than `tolerance` of its scale; a GPU is asked every 8 iterations.

    Raises:
        SingularSystem: when a signal's system is.
    """
    masks = torch.ones(measured.shape[:2], dtype=measured.dtype, device=measured.device) if weights is None else weights
    at_once = max(1, floats_at_once(measured.device, KEPT) // max(1, k * measured.shape[1] * measured.shape[2]))
    atoms = MeasuredAtoms(dictionary, measurement, measured)
    parts = [
        _Fit(atoms, measured[part], masks[part], k, blocks, ridge).run(
            loss, scale, None if indices is None else indices[part], iterations, tolerance
        )
        for part in (slice(first, first + at_once) for first in range(0, max(1, len(measured)), at_once))
    ]
    code = Code.concatenate([part.code for part in parts])
    refuse_singular(code.values, measured)
    return RobustSolution(
        code,
        torch.cat([part.residual for part in parts]),
        parts[0].log,
        torch.cat([part.weights for part in parts]),
        torch.cat([part.scale for part in parts]),
    )


def robust_weights(size: Float[Tensor, "T M"], scale: Float[Tensor, "T 1"], loss: RobustLoss) -> Float[Tensor, "T M"]:
    """rho'(t) / t at t = |r| / s, the weight that makes a square of the loss, at most one."""
    ratio = size / scale
    if loss == "l2":
        return torch.ones_like(size)
    if loss == "l1":
        return 1 / ratio.clamp_min(1)
    if loss == "huber":
        return 1 / ratio.clamp_min(1)
    if loss == "tukey":
        return (1 - ratio.square()).clamp_min(0).square()
    return (-ratio.square()).exp()


class _Fit:
    """T signals that are fitted together."""

    def __init__(
        self,
        atoms: MeasuredAtoms,
        measured: Tensor,
        masks: Tensor,
        k: int,
        blocks: int | None,
        ridge: float,
    ) -> None:
        self.atoms, self.measured, self.masks = atoms, measured, masks.double()
        self.k, self.blocks, self.ridge = k, blocks, ridge
        self._design: Design | None = None
        self.log: list[dict[str, float | Tensor]] = []

    def run(
        self, loss: RobustLoss, scale: float | None, indices: Tensor | None, iterations: int, tolerance: float
    ) -> RobustSolution:
        convex: RobustLoss = "l1" if loss in ("tukey", "welsch") else loss
        code, residuals = self._least_squares(self.masks, indices)
        if loss != "l2":
            code, residuals = self._iterate(convex, scale if loss == "huber" else None, indices, iterations, tolerance)
        if loss != convex:
            # The support is settled: forgetting outliers refines the values.
            fixed = code.indices if indices is None else indices
            code, residuals = self._iterate(loss, scale, fixed, iterations, tolerance, residuals)
        size = _size(residuals)
        # Of the absolute value, which never trusts fully, the weights shown are those of Huber's loss.
        shown: RobustLoss = "huber" if loss == "l1" else loss
        delta = self._scale(size, scale, shown)
        weights = self.masks * robust_weights(size, delta, shown)
        square = (self.masks * size.square()).sum(1) / self.masks.sum(1).clamp_min(1e-30)
        dtype = self.measured.dtype
        return RobustSolution(code, square.to(dtype), Log(self.log), weights.to(dtype), delta[:, 0].to(dtype))

    def _iterate(
        self,
        loss: RobustLoss,
        scale: float | None,
        indices: Tensor | None,
        iterations: int,
        tolerance: float,
        residuals: Tensor | None = None,
    ) -> tuple[Code, Tensor]:
        chosen, best, last, ask = indices, None, None, 1 if self.masks.device.type == "cpu" else _ASK
        settled = torch.zeros(len(self.masks), dtype=torch.bool, device=self.masks.device)
        for iteration in range(iterations):
            anew = indices is None and iteration in _RESELECT
            if residuals is None:
                weights = self.masks
            else:
                size = _size(residuals)
                # Weights that trust a few measurements fully, as late ones of the absolute value, choose poor supports.
                kind: RobustLoss = "huber" if anew else loss
                weights = self.masks * robust_weights(size, self._scale(size, scale, kind, iteration), kind)
            code, found = self._least_squares(weights, None if anew else chosen)
            moved = None if residuals is None else _largest_move(found, residuals, self.masks)
            if last is not None and residuals is not None:
                # A signal that has settled stays where it is, whatever the others do.
                values = torch.where(settled[:, None], last.values, code.values)
                code = Code(values, torch.where(settled[:, None], last.bias, code.bias), code.indices)
                found = torch.where(settled[:, None, None], residuals, found)
            chosen, residuals, last = code.indices, found, code
            size = self.masks * _size(found)
            self.log.append({"iteration": float(len(self.log) + 1), "mean_absolute_residual": size.mean()})
            this = _Candidate(code, found, size.sum(1))
            # Among supports, a later one need not be better.
            best = this if best is None or indices is not None else best.or_better(this)
            if moved is not None and (indices is not None or iteration > _RESELECT[-1]):
                settled = settled | (moved <= tolerance)
                if (iteration + 1) % ask == 0 and bool(settled.all()):
                    break
        assert best is not None
        return best.code, best.residuals

    def _least_squares(self, weights: Tensor, indices: Tensor | None) -> tuple[Code, Tensor]:
        """The codes under some weights, and R f - y."""
        if indices is None:
            indices = select_weighted(self.atoms, self.measured, weights, self.k, self.blocks, self.ridge)
        if self._design is None or self._design.indices is not indices:
            self._design = None  # its columns go before others come
            self._design = Design(self.atoms, self.measured, indices)
        values, bias = self._design.solve(weights, self.ridge)
        dtype = self.measured.dtype
        return Code(values.to(dtype), bias.to(dtype), indices), self._design.residuals(values, bias)

    def _scale(
        self, size: Tensor, scale: float | None, loss: RobustLoss, iteration: int | None = None
    ) -> Float[Tensor, "T 1"]:
        """Where the loss turns."""
        spread = self._spread(size)[:, None]
        if loss == "l1":
            # Smoothed at first, less and less.
            start = 0.5 ** (20 if iteration is None else iteration)
            return (spread * max(start, _SMOOTHING)).clamp_min(1e-9)
        if scale is not None:
            return torch.full_like(spread, scale)
        return {"huber": 1.345, "tukey": 4.685, "welsch": 2.985, "l2": 1.0}[loss] * spread

    def _spread(self, size: Tensor) -> Float[Tensor, "T"]:
        """A standard deviation that half of the measurements, be they outliers, cannot move: from the median."""
        known = torch.where(self.masks > 0, size, torch.full_like(size, torch.nan))
        return (1.4826 * known.nanmedian(1).values).nan_to_num(1.0).clamp_min(1e-6)


@dataclass(frozen=True)
class _Candidate:
    """Codes with their residuals, and the sums of these by which they are compared."""

    code: Code
    residuals: Float[Tensor, "T M d"]
    cost: Float[Tensor, "T"]

    def or_better(self, other: "_Candidate") -> "_Candidate":
        """Of each signal, the candidate that costs less."""
        better = other.cost < self.cost
        mine, others = self.code, other.code
        assert mine.indices is not None and others.indices is not None
        code = Code(
            torch.where(better[:, None], others.values, mine.values),
            torch.where(better[:, None], others.bias, mine.bias),
            torch.where(better[:, None], others.indices, mine.indices),
        )
        residuals = torch.where(better[:, None, None], other.residuals, self.residuals)
        return _Candidate(code, residuals, torch.minimum(self.cost, other.cost))


def _size(residuals: Float[Tensor, "T M d"]) -> Float[Tensor, "T M"]:
    return residuals.square().mean(2).sqrt()


def _largest_move(found: Tensor, before: Tensor, masks: Tensor) -> Float[Tensor, "T"]:
    """The largest change of a residual of each signal, relative to its spread of residuals."""
    change = (masks * _size(found - before)).amax(1)
    return change / (masks * _size(found)).mean(1).clamp_min(1e-9)
