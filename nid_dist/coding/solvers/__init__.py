"""Solvers: pure functions that fit codes to a frozen dictionary, most of them through a reduced `Problem`.

What they take is called the same everywhere: `measurement` is R, the same for all T signals of all ranks, `measured`
what R gave for each; `dictionary` has all experts here, unless it is said otherwise; `indices` are supports without
repeats, of at most `k` experts, chosen in `blocks` rounds, 1 to k (None: k); `ridge` is relative to the mean squared
norm of the atoms; `weights` are those of measurements, not negative (None: all alike).
"""

from nid_dist.coding.solvers.adam import solve_adam
from nid_dist.coding.solvers.codes import solve_codes
from nid_dist.coding.solvers.fista import solve_fista
from nid_dist.coding.solvers.irls import RobustSolution, solve_irls
from nid_dist.coding.solvers.map import posterior, solve_map
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.prepared import LastPrepared, PreparedDictionary
from nid_dist.coding.solvers.problem import Problem, reduce_problem
from nid_dist.coding.solvers.ridge import solve_ridge
from nid_dist.coding.solvers.sharded import solve_omp_sharded
from nid_dist.coding.solvers.solution import Solution

__all__ = [
    "LastPrepared",
    "PreparedDictionary",
    "Problem",
    "RobustSolution",
    "Solution",
    "posterior",
    "reduce_problem",
    "solve_adam",
    "solve_codes",
    "solve_fista",
    "solve_irls",
    "solve_map",
    "solve_omp",
    "solve_omp_sharded",
    "solve_ridge",
]
