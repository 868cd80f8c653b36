"""Supports where every signal has weights of its own, such as masks: matching pursuit in its inner product."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.solvers.design import MeasuredAtoms
from nid_dist.coding.solvers.omp import block_sizes, solve_omp
from nid_dist.coding.solvers.own import PASS, reduce_own, solve_own
from nid_dist.coding.solvers.problem import reduce_problem
from nid_dist.coding.solvers.pursuit import FetchedAtoms, pursue
from nid_dist.coding.solvers.ridge import penalty
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_ROWS = 1024  # measurements in a pass for several signals, at least


@torch.no_grad()
@full_precision()
def select_weighted(
    atoms: MeasuredAtoms,
    measured: Float[Tensor, "T M d"],
    weights: Float[Tensor, "T M"],
    k: int,
    blocks: int | None = None,
    ridge: float = 1e-5,
) -> Int[Tensor, "T k"]:
    """The supports that `solve_omp` would choose for each signal with its own weights; a GPU is not waited for."""
    if atoms.every is None:
        return _select_in_passes(atoms, measured, weights, k, blocks, ridge)
    sizes = block_sizes(min(k, len(atoms.every)), blocks)
    own = _Weighed(atoms.every, atoms.constant, measured, weights, sum(sizes))
    return pursue(own, sizes, penalty(own.energy, ridge)).indices


def _select_in_passes(
    atoms: MeasuredAtoms, measured: Tensor, weights: Tensor, k: int, blocks: int | None, ridge: float
) -> Int[Tensor, "T k"]:
    """Where there are too many measurements to keep what they make of all atoms."""
    dictionary, measurement, heads = atoms.dictionary, atoms.measurement, atoms.dictionary.experts
    chosen = [torch.zeros(0, min(k, dictionary.num_experts), dtype=torch.long, device=measured.device)]
    if not isinstance(heads, LinearHeads):
        for values, trust in zip(measured.split(1), weights, strict=True):
            problem = reduce_problem(dictionary, measurement, values, weights=trust, wait=False)
            indices = solve_omp(problem, k, blocks, ridge, check=False).code.indices
            assert indices is not None
            chosen.append(indices)
        return torch.cat(chosen)

    def passes(rows: int) -> Iterator[tuple[slice, Float[Tensor, "1 P h"]]]:
        for part, features in measurement.chunks(dictionary.trunk, rows):
            yield part, features[None]

    at_once = max(1, floats_at_once(measured.device, PASS) // (_ROWS * heads.width))
    for values, trust in zip(measured.split(at_once), weights.split(at_once), strict=True):
        own = reduce_own(heads, passes, values, trust, atoms.constant)
        indices = solve_own(own, k, blocks, ridge).code.indices
        assert indices is not None
        chosen.append(indices)
    return torch.cat(chosen)


class _Weighed(FetchedAtoms):
    """Atoms and signals less their parts along the constant, times the roots of a signal's weights."""

    def __init__(
        self,
        atoms: Float[Tensor, "n M d"],
        constant: Float[Tensor, "M"],
        measured: Float[Tensor, "T M d"],
        weights: Float[Tensor, "T M"],
        most: int,
    ) -> None:
        self._constant = constant.to(atoms.dtype)
        shares = (weights / weights.sum(1, keepdim=True).clamp_min(1e-30)).to(atoms.dtype)
        self._along = shares * self._constant
        self._square = (self._along @ self._constant).clamp_min(1e-30)
        self._root, self._atoms = shares.sqrt(), atoms
        super().__init__(self._weighed(measured.to(atoms.dtype)[:, None])[:, 0], len(atoms), most)
        squares = self._squares(shares)
        self.energy = squares.mean(1)
        known = squares > 1e-6 * squares.amax(1, keepdim=True)
        self._inverse = torch.where(known, squares.clamp_min(1e-30).rsqrt(), torch.zeros_like(squares))

    def fetch(self, chosen: Int[Tensor, "T s"]) -> Float[Tensor, "T s D"]:
        return self._weighed(self._atoms[chosen])

    def scorer(self, rest: Float[Tensor, "T D"]) -> Callable[[slice], Float[Tensor, "T p"]]:
        # What is left has no part along the constant, so that the atoms' does not matter.
        along, flat = (rest.unflatten(1, (self._root.shape[1], -1)) * self._root[..., None]), self._atoms.flatten(1)
        return lambda part: (along.flatten(1) @ flat[part].t()).mul_(self._inverse[:, part]).abs_()

    def _weighed(self, values: Float[Tensor, "T s M d"]) -> Float[Tensor, "T s D"]:
        means = torch.einsum("tm,tsmd->tsd", self._along, values) / self._square[:, None, None]
        centred = values - self._constant[:, None] * means[:, :, None]
        return (centred * self._root[:, None, :, None]).flatten(2)

    def _squares(self, shares: Float[Tensor, "T M"]) -> Float[Tensor, "T n"]:
        """Norms of all atoms under each signal's weights, squared."""
        along = torch.einsum("tm,nmd->tnd", self._along, self._atoms)
        return shares @ self._atoms.square().sum(2).t() - along.square().sum(2) / self._square[:, None]
