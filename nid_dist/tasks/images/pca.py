"""Principal components of the training signals: what a linear, non-neural dictionary reaches with k coefficients.

A coefficient is the inner product of a centred signal with one component, so k coefficients are k numbers per signal,
as in NID's code. NID's code has a bias per channel besides; `centre` says whether PCA gets these too:

- `"signals"`: classical PCA. The training mean is subtracted, and a signal costs k coefficients and nothing else.
- `"patch"`: each signal's own channel means are subtracted first and coded apart, as NID's biases are. A signal costs
  k coefficients plus d means, the same as NID at that k. The components are those of what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Centre = Literal["signals", "patch"]

CHUNK_VALUES = 2**22


@dataclass(frozen=True)
class Pca:
    """The principal components of a training set, in float64."""

    mean: Float[Tensor, " P"]  # of the training set (of what is left after the channel means for "patch"), flattened
    components: Float[Tensor, "r P"]  # orthonormal rows by falling variance; r = min(T, P) for T training signals
    centre: Centre  # what is subtracted from a signal before it is projected


@torch.no_grad()
def fit_pca(signals: Float[Tensor, "T *positions d"], *, centre: Centre = "signals") -> Pca:
    """Fit the principal components of the training signals, min(T, P) of them for signals of P values.

    The extra memory is that of a P x P matrix in float64 at most, however many signals there are: the covariance is
    accumulated in chunks, about a mean from a first pass, and with fewer signals than values a thin singular value
    decomposition takes its place. The last axis is the channel ([T, H, W, d] patches), or signals are flat already.

    Raises:
        ValueError: there is no signal, or `centre="patch"` meets flat signals, which have no channels.

    Source: Hotelling, "Analysis of a complex of statistical variables into principal components", 1933.
    """
    count, size = signals.shape[0], signals[:1].numel()
    if count == 0 or size == 0:
        raise ValueError("principal components need at least one signal with at least one value")
    if centre == "patch" and signals.ndim < 3:
        raise ValueError('centre="patch" needs signals with a channel axis, [T, ..., d]')
    chunks = torch.split(signals, _chunk(size))
    mean = torch.zeros(size, dtype=torch.float64, device=signals.device)
    for chunk in chunks:
        mean += _flat(chunk, centre)[0].sum(0) / count
    if count <= size:
        centred = torch.cat([_flat(chunk, centre)[0] - mean for chunk in chunks])
        return Pca(mean, torch.linalg.svd(centred, full_matrices=False).Vh, centre)
    covariance = torch.zeros(size, size, dtype=torch.float64, device=signals.device)
    for chunk in chunks:
        centred = _flat(chunk, centre)[0] - mean
        covariance.addmm_(centred.T, centred)
    return Pca(mean, torch.linalg.eigh(covariance).eigenvectors.flip(1).T.contiguous(), centre)


@torch.no_grad()
def truncate(pca: Pca, signals: Float[Tensor, "T *positions d"], k: int) -> Float[Tensor, "T *positions d"]:
    """Reconstruct signals from their coefficients on the first k components (at most all), the same for every signal.

    With `centre="patch"` there are d channel means besides. The reconstructions are not clipped.

    Raises:
        ValueError: k is negative, or the signals have another number of values than the components.
    """
    kept = pca.components[: _checked(k)]
    return _reconstruct(pca, signals, lambda centred: centred @ kept.T @ kept)


@torch.no_grad()
def best_k(pca: Pca, signals: Float[Tensor, "T *positions d"], k: int) -> Float[Tensor, "T *positions d"]:
    """Reconstruct signals as `truncate`, from their k largest coefficients of all, chosen for each signal.

    The components are orthonormal, so this is the best approximation with k of them. Like NID's support, the choice
    of the k indices is not counted as coefficients.

    Raises:
        ValueError: k is negative, or the signals have another number of values than the components.
    """
    return _reconstruct(pca, signals, lambda centred: keep_largest(centred @ pca.components.T, k) @ pca.components)


def keep_largest(coefficients: Float[Tensor, "T r"], k: int) -> Float[Tensor, "T r"]:
    """Keep the k coefficients of largest magnitude in each row (at most all) and set the others to zero.

    Raises:
        ValueError: k is negative.
    """
    kept = coefficients.abs().topk(min(_checked(k), coefficients.shape[1]), dim=1).indices
    return torch.zeros_like(coefficients).scatter(1, kept, coefficients.gather(1, kept))


def _reconstruct(pca: Pca, signals: Tensor, approximate: Callable[[Tensor], Tensor]) -> Tensor:
    """Centre, approximate and uncentre the signals, a chunk at a time."""
    size = pca.mean.numel()
    if signals[:1].numel() != size and signals.shape[0]:
        raise ValueError(f"signals of {signals[:1].numel()} values, components of {size}")
    result = torch.empty_like(signals)
    for source, target in zip(torch.split(signals, _chunk(size)), torch.split(result, _chunk(size)), strict=True):
        flat, channel_means = _flat(source, pca.centre)
        estimate = (approximate(flat - pca.mean) + pca.mean).reshape(source.shape)
        target.copy_(estimate + channel_means)
    return result


def _flat(signals: Tensor, centre: Centre) -> tuple[Tensor, Tensor]:
    """The signals in float64, less what is coded apart, flattened; and what is coded apart, ready to be added."""
    values = signals.double()
    positions = tuple(range(1, values.ndim - 1))
    means = values.mean(positions, keepdim=True) if centre == "patch" else values.new_zeros(())
    return (values - means).flatten(1), means


def _chunk(size: int) -> int:
    return max(1, CHUNK_VALUES // size)


def _checked(k: int) -> int:
    if k < 0:
        raise ValueError(f"k counts coefficients and cannot be {k}")
    return k
