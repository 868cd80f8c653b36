"""Tensor products of uniform B-splines on a regular grid in [-1, 1]^m: one level of the detail experts.

A spline is a bump of one piece, at most `degree + 1` steps wide along each axis; all of a grid add up to 1 wherever it
covers (de Boor 1978, "A Practical Guide to Splines").
"""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TERMS = 2**24  # products of a weight and a coefficient at a time


@dataclass(frozen=True)
class SplineGrid:
    """B-splines of one degree with centres at start + i * step, i below `shape` along each of m axes."""

    start: tuple[float, ...]
    step: tuple[float, ...]
    shape: tuple[int, ...]
    degree: int = 2

    def __post_init__(self) -> None:
        if self.degree not in (1, 2, 3):
            raise ValueError(f"B-splines are of degree 1, 2 or 3, not {self.degree}")
        if not len(self.start) == len(self.step) == len(self.shape) or min(self.shape) < 1 or min(self.step) <= 0:
            raise ValueError(f"no grid: start {self.start}, step {self.step}, shape {self.shape}")

    @staticmethod
    def covering(cells: tuple[int, ...], degree: int = 2) -> "SplineGrid":
        """All splines that are not zero somewhere in [-1, 1]^m, which has so many cells along each axis."""
        step = tuple(2 / each for each in cells)
        return SplineGrid(
            tuple(-1 - (degree - 1) / 2 * each for each in step), step, tuple(each + degree for each in cells), degree
        )

    @staticmethod
    def on_pixels(shape: tuple[int, ...], every: int = 1, degree: int = 1) -> "SplineGrid":
        """Splines with centres at the pixel centres of a grid such as `coordinate_grid` lists, or at every so-manieth.

        With `every` 1 and degree 1 the coefficients are the pixels' values, and f is their linear interpolation.
        """
        width = tuple(2 / each for each in shape)
        counts = tuple(1 if each == 1 else -(-(each - 1) // every) + 1 for each in shape)
        beyond = degree // 2  # splines beyond the first and the last centre that reach between them
        start = tuple(-1 + each / 2 - beyond * every * each for each in width)
        grown = tuple(count + 2 * beyond for count in counts)
        return SplineGrid(start, tuple(every * each for each in width), grown, degree)

    @property
    def size(self) -> int:
        """G, the number of splines; the last axis is the fastest."""
        return prod(self.shape)

    @property
    def dims(self) -> int:
        """m."""
        return len(self.shape)

    def centres(self) -> Float[Tensor, "G m"]:
        """Where each spline is largest."""
        axes = [
            torch.arange(count, dtype=torch.float64) * step + first
            for first, step, count in zip(self.start, self.step, self.shape, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, self.dims)

    def corners(
        self, coords: Float[Tensor, "C m"], along: int | None = None
    ) -> tuple[Int[Tensor, "C s"], Float[Tensor, "C s"]]:
        """The (degree + 1)^m splines that reach a coordinate, and their values there, of the coordinates' type.

        Where the grid has no such spline the value is 0, of spline 0.

        Args:
            along: an axis along which the splines are differentiated, in units of [-1, 1]; None: their values.
        """
        indices = coords.new_zeros(len(coords), 1, dtype=torch.long)
        weights = coords.new_ones(len(coords), 1)
        for axis in range(self.dims):
            # Where a coordinate lies in the grid decides in float64: a cell more or less is another spline.
            position = (coords[:, axis].double() - self.start[axis]) / self.step[axis]
            first, values = _along(position, self.degree, along == axis)
            if along == axis:
                values = values / self.step[axis]
            place = first[:, None] + torch.arange(self.degree + 1, device=coords.device)
            there = (place >= 0) & (place < self.shape[axis])
            values = (values * there).to(coords.dtype)
            place = torch.where(there, place, 0)
            indices = (indices[:, :, None] * self.shape[axis] + place[:, None]).flatten(1)
            weights = (weights[:, :, None] * values[:, None]).flatten(1)
        return indices, weights

    def evaluate(self, values: Float[Tensor, "G d"], coords: Float[Tensor, "C m"]) -> Float[Tensor, "C d"]:
        """The sum of all splines, each times its coefficients, at coordinates."""
        parts = []
        for some in coords.split(max(1, _TERMS // ((self.degree + 1) ** self.dims * values.shape[1]))):
            indices, weights = self.corners(some)
            parts.append(torch.einsum("cs,csd->cd", weights.to(values.dtype), values[indices]))
        return torch.cat(parts) if parts else values.new_zeros(0, values.shape[1])


def _along(position: Tensor, degree: int, derivative: bool) -> tuple[Int[Tensor, "C"], Float[Tensor, "C p"]]:
    """The first spline of an axis that reaches positions in units of steps, and the values of it and the next ones."""
    if degree == 2:
        middle = position.round()
        u = position - middle
        parts = [u - 0.5, -2 * u, u + 0.5] if derivative else [(0.5 - u) ** 2 / 2, 0.75 - u**2, (0.5 + u) ** 2 / 2]
        return middle.long() - 1, torch.stack(parts, 1)
    low = position.floor()
    u = position - low
    if degree == 1:
        parts = [-torch.ones_like(u), torch.ones_like(u)] if derivative else [1 - u, u]
        return low.long(), torch.stack(parts, 1)
    if derivative:
        parts = [-((1 - u) ** 2) / 2, 1.5 * u**2 - 2 * u, -1.5 * u**2 + u + 0.5, u**2 / 2]
    else:
        parts = [(1 - u) ** 3 / 6, u**3 / 2 - u**2 + 2 / 3, (-(u**3) + u**2 + u) / 2 + 1 / 6, u**3 / 6]
    return low.long() - 1, torch.stack(parts, 1)
