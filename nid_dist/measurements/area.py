"""R as a sensor measures: a pixel is the mean of the signal over its area."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.measurements.sampling import Field


@dataclass(frozen=True)
class Area:
    """R f = means of f over the cells of a grid over [-1, 1]^m, by the midpoints of `nodes` parts along each axis.

    With `nodes` times as many pixels along an axis as it has cells, they are the exact means of the pixels' values.
    """

    cells: tuple[int, ...]  # along each axis
    nodes: int  # along each axis of a cell
    device: torch.device | None = None  # where the field is looked at; None: on the CPU

    @property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(self.cells)

    def points(self, part: slice) -> Float[Tensor, "M Q m"]:
        """Where the field is looked at for some of the cells."""
        centres = coordinate_grid(self.cells).to(self.device)[part]
        sides = 2 / torch.tensor(self.cells, dtype=torch.float32, device=self.device)
        inside = coordinate_grid((self.nodes,) * len(self.cells)).to(self.device)
        return centres[:, None] + inside * sides / 2

    def chunks(self, field: Field, rows: int) -> Iterator[tuple[slice, Tensor]]:
        """Means of every component of a field, which is evaluated at about `rows` points at a time."""
        each = self.nodes ** len(self.cells)
        cells = max(1, rows // each)
        for first in range(0, self.size, cells):
            part = slice(first, min(first + cells, self.size))
            points = self.points(part)
            yield part, field(points.flatten(0, 1)).unflatten(0, points.shape[:2]).mean(1)


def area_means(image: Float[Tensor, "H W d"], factor: int) -> Float[Tensor, "h w d"]:
    """The means of blocks of factor x factor pixels; blocks that reach beyond the image have what is in it."""
    height, width = image.shape[:2]
    sums = _blocks(image, factor).sum((1, 3))
    counts = _blocks(image.new_ones(height, width, 1), factor).sum((1, 3))
    return sums / counts


def _blocks(image: Float[Tensor, "H W d"], factor: int) -> Float[Tensor, "h f w f d"]:
    """Blocks of pixels, those beyond the image zero."""
    rows, columns = (-side % factor for side in image.shape[:2])
    padded = torch.nn.functional.pad(image, (0, 0, 0, columns, 0, rows))
    return padded.unflatten(1, (-1, factor)).unflatten(0, (-1, factor))
