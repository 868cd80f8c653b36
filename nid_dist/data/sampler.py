"""Which signals, symmetries and coordinates a step uses: pure functions of (seed, step)."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

# One independent stream of random numbers for each purpose.
_PERMUTATION, _SYMMETRY, _SUBSET = range(3)


def batch_ids(seed: int, step: int, batch: int, size: int) -> Int[Tensor, " batch"]:
    """Draw the signals, ids in [0, size), of a step's global batch; each epoch is a permutation of all signals.

    Steps count from 0. A batch that straddles the border of two epochs has parts of both, and may exceed `size`.
    """
    position, stop, parts = step * batch, (step + 1) * batch, []
    while position < stop:
        epoch, first = divmod(position, size)
        taken = min(size - first, stop - position)
        parts.append(_permutation(seed, epoch, size)[first : first + taken])
        position += taken
    return torch.from_numpy(np.concatenate(parts))


def symmetries(seed: int, step: int, batch: int) -> Int[Tensor, " batch"]:
    """Draw one of the square's 8 symmetries (see `ImageSignals.values`) for each signal of a step's global batch."""
    return torch.from_numpy(independent_generator(seed, _SYMMETRY, step).integers(0, 8, batch))


def coordinate_subset(seed: int, step: int, total: int, count: int) -> Int[Tensor, " count"]:
    """Draw the coordinates on which a step evaluates its signals, ascending indices in [0, total), without repetition.

    They are all where `count` is not smaller than `total`.
    """
    if count >= total:
        return torch.arange(total)
    drawn = independent_generator(seed, _SUBSET, step).choice(total, count, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(drawn))


def independent_generator(seed: int, stream: int, counter: int) -> np.random.Generator:
    """Random numbers that depend on these three alone; streams from 11 on are those of tasks."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, counter))))


# Two, for batches that straddle the border of two epochs.
@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return independent_generator(seed, _PERMUTATION, epoch).permutation(size)
