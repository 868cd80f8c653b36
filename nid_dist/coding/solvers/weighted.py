"""Supports where every signal has weights of its own, such as masks: matching pursuit in its inner product."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.solvers.design import Design
from nid_dist.coding.solvers.omp import block_sizes, solve_omp
from nid_dist.coding.solvers.problem import measured_atoms, reduce_problem
from nid_dist.coding.solvers.statistics import constant_measured
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Measurement
from nid_dist.precision import full_precision

_ATOMS = 2**26  # floats of all measured atoms, up to which the signals are worked on together


@torch.no_grad()
@full_precision()
def select_weighted(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "T M d"],
    weights: Float[Tensor, "T M"],
    k: int,
    blocks: int | None = None,
    ridge: float = 1e-5,
) -> Int[Tensor, "T k"]:
    """The supports that `solve_omp` would choose for each signal with its own weights."""
    if dictionary.num_experts * measured.shape[1] * measured.shape[2] > _ATOMS:
        # Signals of so many measurements are reduced one by one, in passes.
        one = [
            solve_omp(
                reduce_problem(dictionary, measurement, measured[t : t + 1], weights=weights[t]), k, blocks, ridge
            ).code.indices
            for t in range(len(measured))
        ]
        empty = torch.zeros(0, min(k, dictionary.num_experts), dtype=torch.long, device=measured.device)
        return torch.cat([empty, *(indices for indices in one if indices is not None)])
    atoms = torch.cat([part for _, part in measured_atoms(dictionary, measurement)]).transpose(0, 1)
    inverse = _inverse_norms(atoms, constant_measured(measurement, measured).to(atoms.dtype), weights)
    flat, shares = atoms.flatten(1), (weights / weights.sum(1, keepdim=True).clamp_min(1e-30)).to(atoms.dtype)
    taken = torch.zeros(len(measured), dictionary.num_experts, dtype=torch.bool, device=measured.device)
    indices = torch.zeros(len(measured), 0, dtype=torch.long, device=measured.device)
    for size in block_sizes(min(k, dictionary.num_experts), blocks):
        # The first residual is that of the best bias: the support is still empty.
        design = Design(dictionary, measurement, measured, indices)
        rest = design.residuals(*design.solve(weights, ridge)).to(flat.dtype)
        correlation = (rest * shares[..., None]).flatten(1) @ flat.t()
        score = (correlation.abs() * inverse).masked_fill_(taken, -1.0)
        chosen = score.topk(size, dim=1).indices
        taken.scatter_(1, chosen, True)
        indices = torch.cat([indices, chosen], 1)
    return indices


def _inverse_norms(
    atoms: Float[Tensor, "n M d"], constant: Float[Tensor, "M"], weights: Float[Tensor, "T M"]
) -> Float[Tensor, "T n"]:
    """1 / norm of each centred atom under each signal's weights; 0 for those that vanish there."""
    shares = (weights / weights.sum(1, keepdim=True).clamp_min(1e-30)).to(atoms.dtype)
    square = shares @ constant.square()
    along = torch.einsum("tm,nmd->tnd", shares * constant, atoms)
    squares = shares @ atoms.square().sum(2).t() - along.square().sum(2) / square.clamp_min(1e-30)[:, None]
    largest = squares.amax(1, keepdim=True)
    return torch.where(squares > 1e-6 * largest, squares.clamp_min(1e-30).rsqrt(), torch.zeros_like(squares))
