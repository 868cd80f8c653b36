"""Fit codes to signals with a frozen model, by the method's name."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.method import Method
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
from nid_dist.coding.solvers.solution import residual
from nid_dist.device import Stopwatch
from nid_dist.errors import UserError
from nid_dist.measurements.sampling import Measurement
from nid_dist.memory import floats_at_once, release_freed_memory
from nid_dist.model import Model

_DIRECT = ("init", "irls", "map")  # that need no reduced problem
_SIGNALS = 512  # fitted at a time, on a CPU or a GPU of little memory: bounds memory
_TRIM = 8  # times as many, after which freed memory is handed back: what is kept of each lies scattered in it


@torch.no_grad()
def fit_signals(
    model: Model,
    measurement: Measurement,
    values: Float[Tensor, "T M d"],
    methods: Sequence[Method],
    gate_input: Float[Tensor, "T C d"] | None = None,
    *,
    prepared: PreparedDictionary | None = None,
) -> dict[str, Solution]:
    """Fit the codes of T signals by each method: codes, residuals and seconds by the methods' labels.

    With sharded experts it is to be called on all ranks that share them; each takes all experts first.

    Args:
        model: frozen.
        measurement: R, the same for all signals: `Sampling` at some coordinates, line integrals, ...
        values: what it gave.
        gate_input: the signals on the gate's grid, where the values are something else.
        prepared: for this measurement, where many calls are to come.

    Raises:
        UserError: when the gate or the prior that a method needs is not there.
    """
    model = model.unsharded()
    require_methods(model, methods)
    if any(method.name == "detail" for method in methods):
        raise UserError(
            "the method detail",
            found="signals that are no scans",
            expected="one of the methods that solve for coefficients alone",
            hint="choose another, such as omp",
        )
    reduce = partial(reduce_problem, model.dictionary, measurement) if prepared is None else prepared.problem
    for_gate = values if gate_input is None else gate_input
    parts: dict[str, list[Solution]] = {method.label: [] for method in methods}
    # What is measured of a signal and its products with all atoms are alive at once.
    floats = max(1, values[:1].numel(), model.dictionary.num_experts)
    at_once = max(1, floats_at_once(model.device, _SIGNALS * floats) // floats)
    for first in range(0, len(values), at_once):
        part = slice(first, first + at_once)
        if first and first % (_TRIM * at_once) == 0:
            release_freed_memory()
        problem, reduction = None, 0.0
        if any(method.name not in _DIRECT or method.name == "init" for method in methods):
            watch = Stopwatch(model.device)
            problem = reduce(values[part])
            reduction = watch.seconds()
        start, gate_seconds = None, 0.0
        if any(method.needs_gate for method in methods):
            watch = Stopwatch(model.device)
            start = model.encode(for_gate[part])
            gate_seconds = watch.seconds()
        for method in methods:
            watch = Stopwatch(model.device)
            if method.name in ("irls", "map"):
                solution = _solve_measured(model, measurement, values[part], method)
            else:
                assert problem is not None
                solution = _solve(problem, method, start, model.support)
            spent = watch.seconds() + (gate_seconds if method.needs_gate else 0.0)
            # The gate's own code needs no inner products with the dictionary.
            spent += 0.0 if method.name in _DIRECT else reduction
            parts[method.label].append(replace(solution, seconds=spent))
    return {label: join(results) for label, results in parts.items()}


def require_methods(model: Model, methods: Sequence[Method]) -> None:
    """Refuse methods that need what a model lacks.

    Raises:
        UserError: when the gate or the prior that a method needs is not there.
    """
    if any(method.needs_gate for method in methods):
        model.require_gate()
    if any(method.name in ("map", "detail") for method in methods):
        model.require_prior()


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


def join(solutions: Sequence[Solution]) -> Solution:
    """Solutions of signals one after the other as one."""
    code = Code.concatenate([s.code for s in solutions])
    residuals = torch.cat([s.residual for s in solutions])
    return Solution(code, residuals, solutions[0].log, seconds=sum(s.seconds for s in solutions))


def wrong_kind(signal: object, expected: str, hint: str = "choose the dictionary of such signals") -> UserError:
    """The error of a signal that a dictionary does not know, and what it represents."""
    if isinstance(signal, str | Path):
        found = f"the path {str(signal)!r}"
    elif isinstance(signal, np.ndarray | Tensor):
        found = f"an array of shape {tuple(signal.shape)}"
    else:
        found = f"{signal!r:.60}" if isinstance(signal, int | float | None) else f"a {type(signal).__name__}"
    return UserError("the signal", found=found, expected=expected, hint=hint)
