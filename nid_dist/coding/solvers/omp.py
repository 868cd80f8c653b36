"""Orthogonal matching pursuit in blocks: greedy supports, with all values refitted after each block."""

from collections.abc import Callable
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.pursuit import Atoms, FetchedAtoms, best_of, pursue
from nid_dist.coding.solvers.ridge import penalty, refuse_singular
from nid_dist.coding.solvers.solution import Log, Solution, best_bias, residual
from nid_dist.memory import floats_at_once
from nid_dist.merging import Way, product_is_cheaper
from nid_dist.precision import full_precision

_FLOATS = 2**26  # of the inverse factors and of the atoms in the supports of all signals, at most


@torch.no_grad()
@full_precision()
def solve_omp(
    problem: Problem,
    k: int,
    blocks: int | None = None,
    ridge: float = 1e-5,
    tolerance: float = 0.0,
    *,
    check: bool = True,
) -> Solution:
    """Choose atoms by their correlation with the residual, a block at a time, refitting after each (Pati et al. 1993).

    One atom per block (blocks = k) is the classical pursuit; fewer blocks are faster and a little worse. A signal whose
    mean squared error is no more than the tolerance gets no further coefficient: the support is smaller than k when all
    signals reach it before; where only some do, their further coefficients are zero.

    With a tolerance a GPU is waited for after each block; with neither tolerance nor `check` it never is, and a signal
    whose system is singular has values that are not numbers.

    Raises:
        SingularSystem: when a signal's system is.
    """
    sizes = block_sizes(min(k, len(problem.atoms)), blocks)
    norms = torch.linalg.vector_norm(problem.atoms, dim=1)
    inverse = inverse_norms(norms, norms.max())
    gram = problem.gram
    if gram is None and _gram_is_cheaper(problem, sizes):
        gram = problem.atoms @ problem.atoms.t()
    added, codes = penalty(problem.energy, ridge), []
    log: list[dict[str, float | Tensor]] = []

    def part(some: Problem) -> Code:
        """The codes of signals that are worked on together."""

        def reached(indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"]) -> Bool[Tensor, "T 1"]:
            error = residual(some, Code(values, best_bias(some, indices, values), indices))
            log.append({"support": float(indices.shape[1]), "residual": error.mean()})
            return (error <= tolerance)[:, None]

        atoms: Atoms = _Rows(some, inverse, sum(sizes)) if gram is None else _InnerProducts(some, inverse, gram)
        found = pursue(atoms, sizes, added, reached if tolerance > 0 else None)
        values = found.exact(atoms, added, wait=check)
        return Code(values, best_bias(some, found.indices, values), found.indices)

    if tolerance > 0:
        codes.append(part(problem))  # all signals together, since their supports end together
    else:
        each = sum(sizes) * (2 * sum(sizes) + (problem.atoms.shape[1] if gram is None else 0))
        step = max(1, floats_at_once(problem.atoms.device, _FLOATS) // max(1, each))
        codes += [part(problem.signals(slice(i, i + step))) for i in range(0, max(1, len(problem.targets)), step)]
    code = Code.concatenate(codes)
    if check:
        refuse_singular(code.values, problem.targets)
    error, support = residual(problem, code), float(code.values.shape[1])
    before = [entry for entry in log if entry["support"] != support]
    return Solution(code, error, Log([*before, {"support": support, "residual": error.mean()}]))


def block_sizes(k: int, blocks: int | None) -> list[int]:
    """How many atoms each block chooses, k in all; the first blocks one more at most."""
    blocks = k if blocks is None else max(1, min(blocks, k))
    return [k // blocks + (block < k % blocks) for block in range(blocks)]


def inverse_norms(norms: Float[Tensor, "*T n"], largest: Float[Tensor, "*one"]) -> Float[Tensor, "*T n"]:
    """1 / norm; 0 for atoms that vanish on the measurements, which cannot help and would divide by zero."""
    return torch.where(norms > 1e-6 * largest, 1 / norms.clamp_min(1e-30), torch.zeros_like(norms))


class _InnerProducts:
    """The atoms of a problem by their inner products: few atoms, of which each signal asks for many."""

    def __init__(self, problem: Problem, inverse: Float[Tensor, "n"], gram: Float[Tensor, "n n"]) -> None:
        self.targets, self._atoms, self._inverse, self._gram = problem.targets, problem.atoms, inverse, gram
        self._initial = problem.targets @ problem.atoms.t()
        self._score = torch.empty_like(self._initial)

    def choose(self, indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], size: int) -> Int[Tensor, "T size"]:
        correlation = self._initial
        if indices.shape[1]:
            # By the rule: a GPU would time the ways for every size of a support, and be waited for.
            way: Way = "product" if product_is_cheaper(indices.shape[1], len(self._gram)) else "gather"
            explained = Code(values, values, indices).weighted_sum(self._gram, way)
            correlation = torch.sub(self._initial, explained, out=explained)
        score = torch.mul(correlation, self._inverse, out=self._score).abs_()
        return best_of(lambda part: score[:, part], score.shape[1], indices, size)

    def products(self, indices: Int[Tensor, "T k"], old: int) -> tuple[Tensor, Tensor, Tensor]:
        before, new = indices[:, :old], indices[:, old:]
        across, system = (self._gram[new[:, :, None], others[:, None, :]] for others in (before, new))
        return across, system, self._initial.gather(1, new)

    def rows_of(self, indices: Int[Tensor, "T k"], some: Int[Tensor, "c"]) -> Float[Tensor, "c k D"]:
        return self._atoms[indices[some]]


class _Rows(FetchedAtoms):
    """The atoms of a problem by their rows: many atoms, of which each signal asks for a few."""

    def __init__(self, problem: Problem, inverse: Float[Tensor, "n"], most: int) -> None:
        super().__init__(problem.targets, len(problem.atoms), most)
        self._atoms, self._inverse = problem.atoms, inverse

    def fetch(self, chosen: Int[Tensor, "T s"]) -> Float[Tensor, "T s D"]:
        return self._atoms[chosen]

    def scorer(self, rest: Float[Tensor, "T D"]) -> Callable[[slice], Float[Tensor, "T p"]]:
        return lambda part: (rest @ self._atoms[part].t()).mul_(self._inverse[part]).abs_()


def _gram_is_cheaper(problem: Problem, sizes: list[int]) -> bool:
    # Multiplications: all inner products once, against those of the supports in every block; and within 1 GiB.
    experts, dim = problem.atoms.shape
    supports = sum(support**2 for support in accumulate(sizes)) * len(problem.targets)
    return experts * experts <= supports and experts <= 16384 and dim > 0
