"""The detail of signals: coefficients of the detail experts, the part of a code that no training knows."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.detail.splines import SplineGrid

_MOST = 2**31  # coefficients, zeros included, that a file may say there are


@dataclass(frozen=True, eq=False)
class Detail:
    """sum_g c_g B_g(x) of T signals, d numbers each: c_g of the splines of several grids, one grid after another."""

    grids: tuple[SplineGrid, ...]
    values: Float[Tensor, "T G d"]  # T = 1 where the signals share it

    def __post_init__(self) -> None:
        if self.values.numel() > _MOST:
            raise ValueError(f"{self.values.numel()} coefficients of detail, more than {_MOST}")
        if self.values.shape[1] != sum(grid.size for grid in self.grids):
            raise ValueError(f"{self.values.shape[1]} coefficients for grids of {[grid.size for grid in self.grids]}")

    def __call__(self, coords: Float[Tensor, "C m"] | Float[Tensor, "T C m"]) -> Float[Tensor, "T C d"]:
        """Evaluate it at coordinates in [-1, 1]^m, shared by the signals or each one's own."""
        signals, channels = self.values.shape[0], self.values.shape[2]
        if coords.dim() == 3:
            pairs = zip(self.values.expand(len(coords), -1, -1), coords, strict=True)
            return torch.stack([self._sum(values, at) for values, at in pairs])
        together = self._sum(self.values.transpose(0, 1).flatten(1), coords)
        return together.unflatten(1, (signals, channels)).transpose(0, 1)

    def _sum(self, values: Float[Tensor, "G d"], coords: Float[Tensor, "C m"]) -> Float[Tensor, "C d"]:
        parts = values.split([grid.size for grid in self.grids])
        found = values.new_zeros(len(coords), values.shape[1])
        for grid, part in zip(self.grids, parts, strict=True):
            found += grid.evaluate(part, coords)
        return found

    @property
    def numbers(self) -> int:
        """Coefficients that are not zero, of all signals together."""
        return int((self.values != 0).sum())

    def rows(self, selection: slice) -> "Detail":
        """That of some of the signals."""
        return self if len(self.values) == 1 else Detail(self.grids, self.values[selection])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Detail":
        """The same elsewhere, or of another type."""
        return Detail(self.grids, self.values.to(device, dtype))

    @staticmethod
    def concatenate(details: "list[Detail]") -> "Detail":
        """Stack details on the same grids, at least one, over signals in order.

        Raises:
            ValueError: when their grids differ.
        """
        if any(each.grids != details[0].grids for each in details):
            raise ValueError("details on different grids cannot be stacked")
        return Detail(details[0].grids, torch.cat([each.values for each in details]))

    def facts(self) -> dict[str, Any]:
        """Its shape, as JSON can hold it; with `sparse` all that there is of it."""
        return {
            "shape": list(self.values.shape),
            "grids": [
                {"start": list(g.start), "step": list(g.step), "shape": list(g.shape), "degree": g.degree}
                for g in self.grids
            ],
        }

    def sparse(self) -> tuple[Tensor, Tensor]:
        """Where the coefficients are that are not zero, in the order of `values`, ascending; and these, on the CPU."""
        flat = self.values.detach().flatten().cpu().float()
        (places,) = torch.nonzero(flat, as_tuple=True)
        return places.to(torch.int32), flat[places]

    @staticmethod
    def of(facts: dict[str, Any], places: Tensor, coefficients: Tensor) -> "Detail":
        """What `facts` and `sparse` say.

        Raises:
            ValueError: where they contradict each other.
        """
        grids = tuple(
            SplineGrid(tuple(g["start"]), tuple(g["step"]), tuple(g["shape"]), g["degree"]) for g in facts["grids"]
        )
        signals, size, channels = facts["shape"]
        if min(signals, size, channels) < 0 or signals * size * channels > _MOST:
            raise ValueError(f"detail of {signals} x {size} x {channels} coefficients")
        places, total = places.long(), signals * size * channels
        if size != sum(grid.size for grid in grids) or len(places) != len(coefficients):
            raise ValueError("detail: the number of coefficients is not that of the grids")
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < total:
            raise ValueError("detail: a coefficient lies outside the grids")
        flat = torch.zeros(total)
        flat[places] = coefficients.float()
        return Detail(grids, flat.view(signals, size, channels))
