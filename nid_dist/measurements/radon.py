"""R as the Radon transform: line integrals of a continuous f inside the unit disc, by Gauss and Legendre's quadrature.

A line at offset s meets the disc in a chord of length 2 sqrt(1 - s^2), on which f is evaluated at Q nodes: for an f
that is smooth at the scale of the chord / Q the rule is exact to rounding. f is never put on pixels. As a discrete
operator, R f = sum_q w_q f(x_q), R has an exact adjoint, which spreads a measurement over the same nodes with the
same weights.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.raster import Raster, spread
from nid_dist.measurements.sampling import Field

_POINTS = 2**18  # at which an image is interpolated at a time


@dataclass(frozen=True, eq=False)
class Radon:
    """Line integrals of f along the lines of a geometry; zero for lines that miss the disc."""

    geometry: Geometry
    nodes: int = 96  # Q, on each chord; an f with waves of w radians per unit of x needs more than w / 2 or so
    device: torch.device | None = None  # where points are made; None: on the CPU

    @property
    def size(self) -> int:
        """M, lines in all."""
        return self.geometry.size

    @cached_property
    def _on_device(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The lines' angles and offsets, the rule's nodes and weights."""
        angles, offsets, node, weight = (x.to(self.device) for x in (*self.geometry.lines, *_rule(self.nodes)))
        return angles, offsets, node, weight

    def points(self, part: slice | Int[Tensor, "P"]) -> tuple[Float[Tensor, "P Q 2"], Float[Tensor, "P Q"]]:
        """Nodes in the disc, as (row, column), and weights of some lines, summing to the chord's length; in float64."""
        angles, offsets, node, weight = self._on_device
        angles, offsets = angles[part, None], offsets[part, None]
        half = (1 - offsets.square()).clamp_min(0).sqrt()
        along = half * node
        rows = -offsets * angles.sin() - along * angles.cos()
        columns = offsets * angles.cos() - along * angles.sin()
        return torch.stack([rows, columns], -1), half * weight

    def chunks(self, field: Field, rows: int) -> Iterator[tuple[slice, Tensor]]:
        """Integrals of every component of a field, which is evaluated at about `rows` points at a time.

        A field takes coordinates [C, 2] in float32 to [C, p]; gradients pass through. Yields which lines, and their
        integrals.
        """
        lines = max(1, rows // self.nodes)
        for first in range(0, self.size, lines):
            part = slice(first, min(first + lines, self.size))
            points, weights = self.points(part)
            values = field(points.flatten(0, 1).float()).unflatten(0, weights.shape)
            yield part, torch.einsum("pq,pqc->pc", weights.to(values.dtype), values)

    def __call__(self, field: Field) -> Float[Tensor, "M p"]:
        """All integrals of a field at once (see `chunks`)."""
        return torch.cat([part for _, part in self.chunks(field, _POINTS)])

    def of_image(self, image: Float[Tensor, "H W d"]) -> Float[Tensor, "M d"]:
        """Integrals of an image on [-1, 1]^2, interpolated linearly between its pixels' centres, on its device."""
        return replace(self, device=image.device)(Raster(image))

    def adjoint(self, measured: Float[Tensor, "M d"], shape: tuple[int, int]) -> Float[Tensor, "H W d"]:
        """The exact adjoint of `of_image`: each measurement spread along its line, on its device.

        The (unfiltered) back-projection b is such that <of_image(u), g> = <u, b> for every image u.
        """
        image, radon = measured.new_zeros(*shape, measured.shape[1]), replace(self, device=measured.device)
        lines = max(1, _POINTS // self.nodes)
        for first in range(0, self.size, lines):
            part = slice(first, min(first + lines, self.size))
            points, weights = radon.points(part)
            shares = weights.to(measured.dtype)[..., None] * measured[part, None]
            spread(image, points.flatten(0, 1), shares.flatten(0, 1))
        return image


@lru_cache(maxsize=8)
def _rule(nodes: int) -> tuple[Tensor, Tensor]:
    node, weight = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy(node), torch.from_numpy(weight)


def nodes_for(side: int) -> int:
    """Nodes on a chord that integrate the finest wave of a grid of `side` pixels, one period per two of them."""
    # The rule has to resolve w = pi * side / 2 radians per unit with more than w / 2 nodes: 0.79 * side, and some.
    return max(16, math.ceil(1.2 * side))
