"""The greedy search itself: supports that grow by the atoms that correlate best with what is left, refitted each time.

Nothing is asked of a GPU, and where inner products of all atoms are not kept no [T, n] array is: correlations are
looked through a tile of atoms after the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.coding.solvers.growing import GrowingRefits
from nid_dist.coding.solvers.ridge import solve_again
from nid_dist.memory import floats_at_once

_TILE = 2**22  # correlations at a time

Reached = Callable[[Int[Tensor, "T k"], Float[Tensor, "T k"]], Bool[Tensor, "T 1"]]
"""Which signals need no further atom, given supports and values."""


@runtime_checkable
class Atoms(Protocol):
    """What is asked of T signals and the n atoms that they may choose, on a support of which `old` are not new."""

    targets: Float[Tensor, "T D"]

    def choose(self, indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], size: int) -> Int[Tensor, "T size"]:
        """The atoms that correlate best with what is left of the signals, none of a support again."""
        ...

    def products(self, indices: Int[Tensor, "T k"], old: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inner products of the new atoms with the old ones, with each other and with the signals."""
        ...

    def rows_of(self, indices: Int[Tensor, "T k"], some: Int[Tensor, "c"]) -> Float[Tensor, "c k D"]:
        """The atoms in the supports of some signals."""
        ...


@dataclass(frozen=True)
class Pursued:
    """Supports of k atoms, and values that choose well."""

    indices: Int[Tensor, "T k"]
    values: Float[Tensor, "T k"]  # where rounding decided, too small
    rough: Bool[Tensor, "T"]  # whether it did
    present: Bool[Tensor, "T k"] | None  # which atoms count; None: all
    inverse: Float[Tensor, "T k k"] | None  # of the factors of the systems (`GrowingRefits`); None: not known

    def exact(self, atoms: Atoms, added: Float[Tensor, "*T"], *, wait: bool) -> Float[Tensor, "T k"]:
        """The values, exact as those of `solve_again`, with its `wait`."""

        def rows_of(some: Int[Tensor, "c"]) -> Float[Tensor, "c k D"]:
            return atoms.rows_of(self.indices, some)

        return solve_again(self.values, self.rough, rows_of, atoms.targets, added, self.present, wait=wait)


def pursue(atoms: Atoms, sizes: Sequence[int], added: Float[Tensor, "*T"], reached: Reached | None = None) -> Pursued:
    """Choose supports.

    Args:
        sizes: how many atoms each block chooses.
        added: to the diagonals of all systems, or of each signal's.
        reached: asked after every block; it ends when all signals have reached it, for which a GPU is waited for.
    """
    targets, signals = atoms.targets, len(atoms.targets)
    indices = torch.zeros(signals, 0, dtype=torch.long, device=targets.device)
    values, done, present = targets.new_zeros(signals, 0), None, None
    if reached is not None:
        done = torch.zeros(signals, 1, dtype=torch.bool, device=targets.device)
        present = done[:, :0]
    refits = GrowingRefits(targets, sum(sizes), added)
    for block, size in enumerate(sizes):
        chosen = atoms.choose(indices, values, size)
        indices = torch.cat([indices, chosen], 1)
        across, system, right = atoms.products(indices, indices.shape[1] - size)
        if done is not None and present is not None:
            # An atom beside the others, with nothing to fit, gets the value 0 and changes no other.
            present = torch.cat([present, ~done.expand_as(chosen)], 1)
            across, right = across.masked_fill(done[..., None], 0.0), right.masked_fill(done, 0.0)
            alone = torch.diag_embed(system.diagonal(dim1=1, dim2=2).clamp_min(1e-30))
            system = torch.where(done[..., None], alone, system)
        values = refits.add(across, system, right).to(targets.dtype)
        if reached is not None and block < len(sizes) - 1:
            done = reached(indices, values)
            if bool(done.all()):
                break
    return Pursued(indices, values, refits.rough, present, refits.inverse)


def prune(found: Pursued, k: int) -> Pursued:
    """Keep the k atoms whose loss would each cost the most, with the best values of these alone.

    Without an atom the squared error grows by the square of its value over its own entry of the inverse system. Values
    that are left make up for those that go (the removal of variables from a least-squares fit).
    """
    if found.indices.shape[1] <= k:
        return found
    assert found.present is None and found.inverse is not None
    values, system = found.values.double(), found.inverse.transpose(1, 2) @ found.inverse
    order = (values.square() / system.diagonal(dim1=1, dim2=2)).argsort(1, descending=True)
    kept, lost = order[:, :k], order[:, k:]
    rows = system.gather(1, lost[..., None].expand(-1, -1, system.shape[2]))
    corner = rows.gather(2, lost[:, None].expand(-1, lost.shape[1], -1))
    across = rows.gather(2, kept[:, None].expand(-1, lost.shape[1], -1))
    moved = torch.cholesky_solve(values.gather(1, lost)[..., None], torch.linalg.cholesky_ex(corner)[0])
    fitted = values.gather(1, kept) - (across.transpose(1, 2) @ moved)[..., 0]
    chosen = found.indices.gather(1, kept)
    return replace(found, indices=chosen, values=fitted.to(found.values.dtype), inverse=None)


class FetchedAtoms(ABC):
    """Atoms of which those that are chosen are fetched, once, and kept for all that follows."""

    def __init__(self, targets: Float[Tensor, "T D"], experts: int, most: int) -> None:
        self.targets, self._experts = targets, experts
        self._rows = targets.new_empty(len(targets), most, targets.shape[1])

    @abstractmethod
    def fetch(self, chosen: Int[Tensor, "T s"]) -> Float[Tensor, "T s D"]:
        """Each signal's atoms."""

    @abstractmethod
    def scorer(self, rest: Float[Tensor, "T D"]) -> Callable[[slice], Float[Tensor, "T p"]]:
        """What makes the magnitudes of the correlations of some of the n atoms, made unit ones, with a residual."""

    def left(self, values: Float[Tensor, "T k"]) -> Float[Tensor, "T D"]:
        """What the values of the atoms fetched so far leave of the signals."""
        return self.targets - torch.einsum("tk,tkp->tp", values, self._rows[:, : values.shape[1]])

    def choose(self, indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], size: int) -> Int[Tensor, "T size"]:
        """The atoms that correlate best with what is left of the signals, none of a support again."""
        return best_of(self.scorer(self.left(values)), self._experts, indices, size)

    def products(self, indices: Int[Tensor, "T k"], old: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inner products of the new atoms with the old ones, with each other and with the signals."""
        new = self.fetch(indices[:, old:])
        self._rows[:, old : indices.shape[1]] = new
        across, system = (new @ others.transpose(1, 2) for others in (self._rows[:, :old], new))
        return across, system, torch.einsum("tkp,tp->tk", new, self.targets)

    def rows_of(self, indices: Int[Tensor, "T k"], some: Int[Tensor, "c"]) -> Float[Tensor, "c k D"]:
        """The atoms in the supports of some signals."""
        return self._rows[some, : indices.shape[1]]


def best_of(
    score: Callable[[slice], Float[Tensor, "T p"]], experts: int, taken: Int[Tensor, "T k"], size: int
) -> Int[Tensor, "T size"]:
    """The atoms of the largest scores that are not taken.

    Args:
        score: makes the scores, not negative, of some of the n atoms; may be written to.
    """
    tile = max(size, floats_at_once(taken.device, _TILE) // max(1, len(taken)))
    values, indices = None, taken[:, :0]
    for first in range(0, experts, tile):
        scores = score(slice(first, min(first + tile, experts)))
        _leave_out(scores, taken, None if tile >= experts else first)
        found, places = _largest(scores, size)
        if values is not None:
            found, order = _largest(torch.cat([values, found], 1), size)
            places = torch.cat([indices, places + first], 1).gather(1, order)
        values, indices = found, places
    return indices


def _leave_out(scores: Float[Tensor, "T p"], taken: Int[Tensor, "T k"], first: int | None) -> None:
    """Mark what is taken in the scores of the atoms from the first on; None: of all."""
    if first is None:
        scores.scatter_(1, taken, -1.0)
        return
    local, width = taken - first, scores.shape[1]
    marks = torch.where((local >= 0) & (local < width), -1.0, torch.inf).to(scores.dtype)
    scores.scatter_reduce_(1, local.clamp(0, width - 1), marks, "amin")


def _largest(scores: Float[Tensor, "T p"], size: int) -> tuple[Float[Tensor, "T size"], Int[Tensor, "T size"]]:
    """The largest numbers, and where they are."""
    if size == 1:
        found = scores.max(1, keepdim=True)
        return found.values, found.indices
    top = scores.topk(min(size, scores.shape[1]), dim=1)
    return top.values, top.indices
