"""An image as a function of continuous coordinates, by linear interpolation between pixels, and its adjoint."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Raster:
    """The function that an image on [-1, 1]^2 stands for; beyond its outermost centres it falls to 0 within a pixel."""

    image: Float[Tensor, "H W d"]

    def __call__(self, coords: Float[Tensor, "C 2"]) -> Float[Tensor, "C d"]:
        """Evaluate it at (row, column)."""
        places, weights = corners(coords, self.image.shape[:2])
        flat = self.image.flatten(0, 1)
        return torch.einsum("ck,ckd->cd", weights.to(flat.dtype), flat[places])


def spread(image: Float[Tensor, "H W d"], coords: Float[Tensor, "C 2"], values: Float[Tensor, "C d"]) -> None:
    """Add values at (row, column) to the pixels around, in place, with the weights that `Raster` reads them with."""
    places, weights = corners(coords, image.shape[:2])
    shares = weights.to(values.dtype)[..., None] * values[:, None]
    image.view(-1, image.shape[2]).index_add_(0, places.flatten(), shares.flatten(0, 1))


def corners(coords: Float[Tensor, "C 2"], shape: tuple[int, ...]) -> tuple[Int[Tensor, "C 4"], Float[Tensor, "C 4"]]:
    """The four pixels that a value between their centres is interpolated from, and their weights: 0 outside the image.

    Pixels are places in the flattened image of shape (H, W).
    """
    size = torch.tensor(shape[:2], device=coords.device)
    position = (coords.double() + 1) * size / 2 - 0.5
    low = position.floor()
    places, weights = [], []
    for row in (0, 1):
        for column in (0, 1):
            corner = low.long() + torch.tensor([row, column], device=coords.device)
            inside = ((corner >= 0) & (corner < size)).all(1)
            weight = (1 - (position - corner).abs()).prod(1)
            corner = corner.clamp_min(0).minimum(size - 1)
            places.append(corner[:, 0] * size[1] + corner[:, 1])
            weights.append(weight * inside)
    return torch.stack(places, 1), torch.stack(weights, 1)
