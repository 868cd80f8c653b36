"""One axis of samples as overlapping tiles of one length, and back, at any output resolution."""

from dataclasses import dataclass
from math import ceil, pi

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Keeps the window positive where an output sample falls on a tile's border; too small to be seen.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Cover:
    """Which output pixels the n tiles of one axis cover, c samples each, and with which weight."""

    length: int  # output pixels along the axis
    index: Int[Tensor, "n c"]  # output pixel of each sample; 0 where the sample has none
    coordinate: Float[Tensor, "n c"]  # where the sample lies in its tile, in [-1, 1]
    # share of the sample in its pixel; sums to 1 over the samples of a pixel, 0 without a pixel
    weight: Float[Tensor, "n c"]
    shared: bool  # whether all tiles have the same coordinates

    def gather(self, samples: Float[Tensor, " n *rest"]) -> Float[Tensor, " length *rest"]:
        """Add up the samples of each output pixel, weighted ones, all tiles' one after the other."""
        out = samples.new_zeros(self.length, *samples.shape[1:])
        return out.index_add(0, self.index.flatten().to(samples.device), samples)

    def assemble(self, values: Float[Tensor, "n c d"]) -> Float[Tensor, "length d"]:
        """Blend what the tiles, each evaluated at `coordinate`, say about each output pixel."""
        return self.gather((values * self.weight.to(values)[..., None]).flatten(0, 1))


def tile_starts(length: int, tile: int, stride: int) -> list[int]:
    """First samples of the tiles that cover an axis; the last one may reach beyond its end."""
    count = 1 + max(0, ceil((length - tile) / stride))
    return [stride * i for i in range(count)]


def tile_samples(starts: list[int], tile: int, length: int) -> Int[Tensor, "n P"]:
    """Which samples lie in each tile; beyond the end, the axis is continued by its last one."""
    return (torch.tensor(starts)[:, None] + torch.arange(tile)).clamp(max=length - 1)


def cover_axis(length: int, tile: int, starts: list[int], out: int) -> Cover:
    """Which of `out` output pixels each tile of an axis of some length covers.

    Output pixel j has its centre at (j + 1/2) length / out, in samples of the axis. All positions are integers in units
    of 1 / (2 out) samples, so that which tile covers what is exact.
    """
    start = np.array(starts, dtype=np.int64)
    first = _next_centre(2 * out * start, length)
    stop = _next_centre(2 * out * (start + tile), length)
    index = first[:, None] + np.arange(max(1, int((stop - first).max())))
    within: Bool[np.ndarray, "n c"] = index < stop[:, None]
    offset = (2 * index + 1) * length - 2 * out * start[:, None]
    coordinate = np.where(within, offset / (out * tile) - 1, 0.0)
    covered = within & (index < out)
    index = np.where(covered, index, 0)
    weight = np.where(covered, np.cos(pi / 2 * coordinate) ** 2 + _FLOOR, 0.0)
    weight /= np.bincount(index.ravel(), weight.ravel(), minlength=out)[index]
    return Cover(
        length=out,
        index=torch.from_numpy(index),
        coordinate=torch.from_numpy(coordinate.astype(np.float32)),
        weight=torch.from_numpy(weight.astype(np.float32)),
        shared=bool(within.all() and (offset == offset[:1]).all()),
    )


def _next_centre(position: Int[np.ndarray, " n"], length: int) -> Int[np.ndarray, " n"]:
    """Find the first output pixel j whose centre (2 j + 1) length is not before a position."""
    return -((length - position) // (2 * length))
