"""The detail of a picture: a few splines chosen from a large family, each with one number."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.detail.family import AxisFamily, colour_directions

_PRODUCTS = 2**24  # of a spline along the rows and one along the columns, at a time


@dataclass(frozen=True, eq=False)
class SelectedSplines:
    """sum_g c_g B_g(x) over the chosen members g of the family of a grid, of one signal with d channels."""

    shape: tuple[int, int]  # rows and columns of pixels that the family is made for
    channels: int
    members: Int[Tensor, "N 3"]  # direction of colour, function along the rows, function along the columns
    values: Float[Tensor, "N"]

    def __call__(self, coords: Float[Tensor, "C 2"] | Float[Tensor, "1 C 2"]) -> Float[Tensor, "1 C d"]:
        """Evaluate it at coordinates in [-1, 1]^2: a grid's, or any."""
        if coords.dim() == 3:
            coords = coords[0]
        (rows, row), (columns, column) = (coords[:, axis].unique(return_inverse=True) for axis in (0, 1))
        found = self.values.new_zeros(len(coords), self.channels)
        axes = [AxisFamily(pixels) for pixels in self.shape]
        for direction, colour in enumerate(colour_directions(self.channels).to(found)):
            own = self.members[:, 0] == direction
            if not bool(own.any()):
                continue
            along_rows = axes[0].evaluate(rows, self.members[own, 1]).to(found) * self.values[own, None]
            along_columns = axes[1].evaluate(columns, self.members[own, 2]).to(found)
            if len(rows) * len(columns) <= 4 * len(coords):
                part = (along_rows.t() @ along_columns)[row, column]
            else:
                places = zip(*(each.split(max(1, _PRODUCTS // len(along_rows))) for each in (row, column)), strict=True)
                part = torch.cat([(along_rows[:, i] * along_columns[:, j]).sum(0) for i, j in places])
            found += part[:, None] * colour
        return found[None]

    @property
    def numbers(self) -> int:
        """How many were chosen."""
        return len(self.values)

    def rows(self, selection: slice) -> "SelectedSplines":
        """That of some of the signals, of which there is one."""
        return self

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "SelectedSplines":
        """The same elsewhere, or of another type."""
        return SelectedSplines(self.shape, self.channels, self.members.to(device), self.values.to(device, dtype))

    def facts(self) -> dict[str, Any]:
        """Its shape, as JSON can hold it; with `sparse` all that there is of it."""
        return {"pixels": list(self.shape), "channels": self.channels}

    def sparse(self) -> tuple[Tensor, Tensor]:
        """The members' numbers in the family, ascending, and their coefficients, on the CPU."""
        rows, columns = (AxisFamily(pixels).size for pixels in self.shape)
        members = self.members.cpu()
        places = (members[:, 0] * rows + members[:, 1]) * columns + members[:, 2]
        order = places.argsort()
        kind = torch.int32 if rows * columns * self.channels < 2**31 else torch.int64
        return places[order].to(kind), self.values.detach().cpu().float()[order]

    @staticmethod
    def of(facts: dict[str, Any], places: Tensor, coefficients: Tensor) -> "SelectedSplines":
        """What `facts` and `sparse` say.

        Raises:
            ValueError: where they contradict each other.
        """
        height, width, channels = (int(each) for each in (*facts["pixels"], facts["channels"]))
        if min(height, width, channels) < 1 or len(places) != len(coefficients):
            raise ValueError("detail: the number of coefficients is not that of the splines")
        rows, columns, places = AxisFamily(height).size, AxisFamily(width).size, places.long()
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < channels * rows * columns:
            raise ValueError("detail: a spline lies outside the family")
        members = torch.stack([places // (rows * columns), places // columns % rows, places % columns], 1)
        return SelectedSplines((height, width), channels, members, coefficients.float())
