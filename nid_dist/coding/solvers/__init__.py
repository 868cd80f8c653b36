"""Solvers: pure functions that fit codes to a frozen dictionary through a reduced `Problem`."""

from nid_dist.coding.solvers.adam import solve_adam
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.problem import Problem, reduce_problem
from nid_dist.coding.solvers.ridge import solve_ridge
from nid_dist.coding.solvers.separate import solve_codes_apart
from nid_dist.coding.solvers.sharded import reduce_problem_for, solve_codes, solve_omp_sharded
from nid_dist.coding.solvers.solution import Solution

__all__ = [
    "Problem",
    "Solution",
    "reduce_problem",
    "reduce_problem_for",
    "solve_adam",
    "solve_codes",
    "solve_codes_apart",
    "solve_omp",
    "solve_omp_sharded",
    "solve_ridge",
]
