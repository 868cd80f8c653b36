"""How many directions a set of atoms really spans: the effective rank, which falls when a dictionary collapses."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 8192


@torch.no_grad()
def effective_rank(atoms: Float[Tensor, "n p"]) -> float:
    """Effective rank of the atom matrix: the exponential of the entropy of its normalised singular values.

    Computed in float64 through the Gram matrix of the smaller side, accumulated in chunks. A Gram matrix cannot tell
    singular values below about 1e-7 of the largest from rounding; those are taken as zero.

    Args:
        atoms: one atom per row, sampled at p values (positions times channels); any scale.

    Returns:
        A number between 1 and min(n, p); 0 for a matrix that is empty or all zero, not a number for a matrix that
        holds a value that is not finite.

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007, equation 5.
    """
    if atoms.numel() == 0:
        return 0.0
    largest = atoms.abs().max().double()
    if not bool(torch.isfinite(largest)):
        return math.nan
    if largest == 0:
        return 0.0
    tall = atoms if atoms.shape[0] >= atoms.shape[1] else atoms.T
    gram = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64, device=atoms.device)
    for rows in torch.split(tall, CHUNK):
        # Dividing by the largest value keeps the squares away from overflow and underflow.
        scaled = rows.double() / largest
        gram.addmm_(scaled.T, scaled)
    eigenvalues = torch.linalg.eigvalsh(gram)
    noise = eigenvalues.max() * len(eigenvalues) * torch.finfo(torch.float64).eps
    singular_values = eigenvalues[eigenvalues > noise].sqrt()
    shares = singular_values / singular_values.sum()
    return math.exp(float(torch.special.entr(shares).sum()))
