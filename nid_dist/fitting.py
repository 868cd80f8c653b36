"""Fit codes to signals with a frozen model, by the method's name."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers import (
    PreparedDictionary,
    Problem,
    Solution,
    reduce_problem,
    solve_adam,
    solve_fista,
    solve_irls,
    solve_map,
    solve_omp,
    solve_ridge,
)
from nid_dist.coding.solvers.irls import RobustLoss
from nid_dist.coding.solvers.solution import residual
from nid_dist.errors import UserError
from nid_dist.measurements.sampling import Measurement, Sampling
from nid_dist.memory import release_freed_memory
from nid_dist.model import Model

METHODS = ("init", "adam", "ridge", "omp", "fista", "irls", "map")
_GATED = ("init", "adam", "ridge")
_DIRECT = ("init", "irls", "map")  # that need no reduced problem
_SIGNALS = 512  # fitted at a time: bounds memory
_TRIM = 8  # times as many, after which freed memory is handed back: what is kept of each lies scattered in it


@dataclass(frozen=True)
class Method:
    """One way to fit.

    Args:
        name: `init` (the gate's code), `adam` (steps from it), `ridge` (on the gate's support), `omp`, `fista` (L1),
            `irls` (robust), `map` (with the prior that the training learned).
        steps: of Adam; for `omp`, `irls` and `map` the rounds of selection, 0 for one atom a round.
        ridge: relative ridge.
        penalty: of `fista`, relative to the least that leaves nothing.
        loss: of `irls`.
        tolerance: of `omp`: a signal of no larger mean squared error gets no further coefficients.
        noise: of `map`, the standard deviation of the measurements' noise in the signal's units.
    """

    name: str
    steps: int = 0
    ridge: float = 1e-5
    penalty: float = 0.01
    loss: RobustLoss = "l1"
    tolerance: float = 0.0
    noise: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise UserError(
                "--solver", found=repr(self.name), expected=f"one of {', '.join(METHODS)}", hint="choose one of these"
            )

    @property
    def label(self) -> str:
        """The name in tables: init, adam10, ridge, omp (one atom a round), omp8 (eight rounds)."""
        return f"{self.name}{self.steps}" if self.steps else self.name

    @property
    def needs_gate(self) -> bool:
        """Whether the gate proposes the support."""
        return self.name in _GATED


@dataclass(frozen=True)
class Fit:
    """What a method gave.

    Args:
        solution: codes, residuals and log.
        seconds: for all signals together, the reduction of the signals included.
    """

    solution: Solution
    seconds: float


@torch.no_grad()
def fit_signals(
    model: Model,
    values: Float[Tensor, "T M d"],
    coords: Float[Tensor, "M m"] | None,
    methods: Sequence[Method],
    gate_input: Float[Tensor, "T C d"] | None = None,
    *,
    measurement: Measurement | None = None,
    prepared: PreparedDictionary | None = None,
) -> dict[str, Fit]:
    """Fit the codes of T signals by each method.

    With sharded experts it is to be called on all ranks that share them; each takes all experts first.

    Args:
        model: frozen.
        values: what was measured of the signals.
        coords: where, the same for all of them; None: on the gate's grid.
        methods: which.
        gate_input: the signals on the gate's grid, where that is another one.
        measurement: R, where it is not sampling at `coords`.
        prepared: for this measurement, where many calls are to come.

    Returns:
        The fits by the methods' labels.

    Raises:
        UserError: when the gate or the prior that a method needs is not there.
    """
    model = model.unsharded()
    if measurement is None:
        measurement = Sampling(model.coords if coords is None else coords)
    reduce = partial(reduce_problem, model.dictionary, measurement) if prepared is None else prepared.problem
    for_gate = values if gate_input is None else gate_input
    parts: dict[str, list[tuple[Solution, float]]] = {method.label: [] for method in methods}
    for first in range(0, len(values), _SIGNALS):
        part = slice(first, first + _SIGNALS)
        if first and first % (_TRIM * _SIGNALS) == 0:
            release_freed_memory()
        problem, reduction = None, 0.0
        if any(method.name not in _DIRECT or method.name == "init" for method in methods):
            begin = time.perf_counter()
            problem = reduce(values[part])
            reduction = time.perf_counter() - begin
        start, gate_seconds = None, 0.0
        if any(method.needs_gate for method in methods):
            begin = time.perf_counter()
            start = model.encode(for_gate[part])
            gate_seconds = time.perf_counter() - begin
        for method in methods:
            begin = time.perf_counter()
            if method.name in ("irls", "map"):
                solution = _solve_measured(model, measurement, values[part], method)
            else:
                assert problem is not None
                solution = _solve(problem, method, start, model.support)
            spent = time.perf_counter() - begin + (gate_seconds if method.needs_gate else 0.0)
            # The gate's own code needs no inner products with the dictionary.
            parts[method.label].append((solution, spent + (0.0 if method.name in _DIRECT else reduction)))
    return {label: _join(results) for label, results in parts.items()}


def _solve(problem: Problem, method: Method, start: Code | None, k: int) -> Solution:
    if method.name == "omp":
        return solve_omp(problem, k, method.steps or None, method.ridge, method.tolerance)
    if method.name == "fista":
        return solve_fista(problem, k, penalty=method.penalty, ridge=method.ridge)
    assert start is not None and start.indices is not None
    if method.name == "ridge":
        return solve_ridge(problem, start.indices, method.ridge)
    if method.name == "adam":
        return solve_adam(problem, start, method.steps)
    return Solution(start, residual(problem, start))


def _solve_measured(model: Model, measurement: Measurement, values: Float[Tensor, "T M d"], method: Method) -> Solution:
    """The solvers that weigh the measurements, or know more than them."""
    k, blocks = model.support, method.steps or None
    if method.name == "map":
        prior = model.require_prior()
        return solve_map(model.dictionary, measurement, values, prior, noise=method.noise, k=k, blocks=blocks)
    return solve_irls(model.dictionary, measurement, values, k, loss=method.loss, blocks=blocks, ridge=method.ridge)


def _join(results: list[tuple[Solution, float]]) -> Fit:
    solutions = [solution for solution, _ in results]
    joined = Solution(
        Code.concatenate([s.code for s in solutions]), torch.cat([s.residual for s in solutions]), solutions[0].log
    )
    return Fit(joined, sum(seconds for _, seconds in results))
