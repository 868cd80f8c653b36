"""Images of any size as overlapping patches of one size, and back, at any output resolution.

Rows and columns are separable: everything is computed for one axis (`Cover`) and combined.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.tiles import Cover, cover_axis, tile_samples, tile_starts
from nid_dist.errors import UserError


@dataclass(frozen=True)
class Query:
    """Where to evaluate the tiles of an image for an output of `rows.length` x `cols.length` pixels."""

    rows: Cover
    cols: Cover

    @property
    def coords(self) -> Float[Tensor, "*tiles C 2"]:
        """Coordinates in each tile, [C, 2] when all tiles share them and [N, C, 2] otherwise (padded, 'ij' order)."""
        shared = self.rows.shared and self.cols.shared
        row, col = (axis.coordinate[:1] if shared else axis.coordinate for axis in (self.rows, self.cols))
        shape = (row.shape[0], col.shape[0], row.shape[1], col.shape[1])
        grid = torch.stack([row[:, None, :, None].expand(shape), col[None, :, None, :].expand(shape)], dim=-1)
        coords = grid.reshape(shape[0] * shape[1], shape[2] * shape[3], 2)
        return coords[0] if shared else coords

    def assemble(self, values: Float[Tensor, "N C d"]) -> Float[Tensor, "H W d"]:
        """Blend what the tiles, in row-major order, say on `coords` about each output pixel; differentiable."""
        (nr, cr), (nc, cc), d = self.rows.index.shape, self.cols.index.shape, values.shape[-1]
        blocks = values.reshape(nr, nc, cr, cc, d) * self.rows.weight.to(values)[:, None, :, None, None]
        strips = self.rows.gather(blocks.permute(0, 2, 1, 3, 4).reshape(nr * cr, nc, cc, d))
        strips = strips * self.cols.weight.to(values)[None, :, :, None]
        return self.cols.gather(strips.permute(1, 2, 0, 3).reshape(nc * cc, self.rows.length, d)).transpose(0, 1)


class Tiling:
    """Square patches at a fixed stride that cover an image.

    The last patches may reach beyond the bottom and right border, where the image is continued by its edge.

    Args:
        height: rows of the image in pixels.
        width: columns of the image in pixels.
        patch: side of a patch in pixels; None: one tile of the image's own size.
        stride: step between patches in pixels, at most `patch`; None: no overlap.

    Attributes:
        patch_shape: rows and columns of a tile in pixels.
        rows: first row of the tiles of each row of tiles.
        cols: first column of the tiles of each column of tiles.

    Raises:
        ValueError: a side, patch or stride below 1, or a stride that leaves pixels out.
    """

    def __init__(self, height: int, width: int, patch: int | None = None, stride: int | None = None) -> None:
        self.patch_shape = (height, width) if patch is None else (patch, patch)
        steps = self.patch_shape if patch is None or stride is None else (stride, stride)
        if min(height, width, *self.patch_shape, *steps) < 1 or steps[0] > self.patch_shape[0]:
            raise ValueError(f"no tiling of {height}x{width} by patches of {patch} at stride {stride}")
        self.height, self.width, self.patch, self.stride = height, width, patch, stride
        self.rows = tile_starts(height, self.patch_shape[0], steps[0])
        self.cols = tile_starts(width, self.patch_shape[1], steps[1])

    def __len__(self) -> int:
        """Number of tiles, N."""
        return len(self.rows) * len(self.cols)

    @property
    def coords(self) -> Float[Tensor, "C 2"]:
        """The grid of a tile's own pixels."""
        return coordinate_grid(self.patch_shape)

    def split(self, image: Float[np.ndarray, "H W d"] | Float[Tensor, "H W d"]) -> Float[Tensor, "N C d"]:
        """Cut an image of the tiling's size into tiles in row-major order, pixels of a tile in 'ij' order.

        Raises:
            ValueError: the image has another size.
        """
        if tuple(image.shape[:2]) != (self.height, self.width):
            raise ValueError(f"image of {tuple(image.shape[:2])} pixels, tiling of {(self.height, self.width)}")
        pixels = image if isinstance(image, Tensor) else torch.tensor(image)
        rows = tile_samples(self.rows, self.patch_shape[0], self.height).to(pixels.device)
        cols = tile_samples(self.cols, self.patch_shape[1], self.width).to(pixels.device)
        tiles = pixels[rows[:, None, :, None], cols[None, :, None, :]]
        return tiles.reshape(len(self), -1, pixels.shape[-1])

    def assemble(self, patches: Float[Tensor, "N C d"]) -> Float[Tensor, "H W d"]:
        """Put tiles together again, in the order of `split`, which this undoes; blended where they overlap."""
        return self.query(self.height, self.width).assemble(patches)

    def query(self, out_height: int, out_width: int) -> Query:
        """Find where to evaluate each tile for an output of any resolution, and how to assemble the values.

        Raises:
            UserError: an output side below 1.
        """
        if min(out_height, out_width) < 1:
            raise UserError(
                "output resolution",
                found=f"{out_height}x{out_width} pixels",
                expected="at least one pixel on each side",
                hint="choose a larger resolution",
            )
        return Query(
            cover_axis(self.height, self.patch_shape[0], self.rows, out_height),
            cover_axis(self.width, self.patch_shape[1], self.cols, out_width),
        )
