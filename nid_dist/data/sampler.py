"""Which signals, symmetries and coordinates a step uses: pure functions of (seed, step)."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

# One independent stream of random numbers for each purpose.
_PERMUTATION, _SYMMETRY, _SUBSET = range(3)


def batch_ids(seed: int, step: int, batch: int, size: int) -> Int[Tensor, " batch"]:
    """Draw the signals of a step's global batch; each epoch is a permutation of all signals.

    Args:
        step: counted from 0; a batch that straddles the border of two epochs has parts of both.
        batch: signals in one step over all ranks; may exceed `size`.
        size: number of signals in the training set.

    Returns:
        [batch] int64 ids in [0, size).
    """
    position, stop, parts = step * batch, (step + 1) * batch, []
    while position < stop:
        epoch, first = divmod(position, size)
        taken = min(size - first, stop - position)
        parts.append(_permutation(seed, epoch, size)[first : first + taken])
        position += taken
    return torch.from_numpy(np.concatenate(parts))


def symmetries(seed: int, step: int, batch: int) -> Int[Tensor, " batch"]:
    """Draw one of the square's 8 symmetries for each signal of a step's global batch.

    Args:
        step: counted from 0.
        batch: signals in one step over all ranks.

    Returns:
        [batch] int64, each in 0..7 (see `ImageSignals.values`).
    """
    return torch.from_numpy(_generator(seed, _SYMMETRY, step).integers(0, 8, batch))


def coordinate_subset(seed: int, step: int, total: int, count: int) -> Int[Tensor, " count"]:
    """Draw the coordinates on which a step evaluates its signals, without repetition.

    Args:
        step: counted from 0.
        total: number of coordinates of a signal, C.
        count: coordinates to draw; all of them if not smaller than `total`.

    Returns:
        [min(count, total)] int64 indices in [0, total), ascending.
    """
    if count >= total:
        return torch.arange(total)
    drawn = _generator(seed, _SUBSET, step).choice(total, count, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(drawn))


def _generator(seed: int, stream: int, counter: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, counter))))


# Two, for batches that straddle the border of two epochs.
@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return _generator(seed, _PERMUTATION, epoch).permutation(size)
