"""Splines to choose from for a picture: more of them than pixels, so that few of them say much.

Along an axis there are bumps, cubic B-splines, and edges, the differences of two neighbouring quadratic ones (the
derivatives of the bumps), of steps 1, 2, 4, ... pixels wide, with centres a quarter of a step apart or a pixel; and a
hat, the linear B-spline, at each pixel. A member of the family is one of these along the rows times one along the
columns, of whatever width each, in one direction of colour: grey, or one of two that leave grey as it is.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Kind: TypeAlias = Literal["hat", "bump", "edge"]

_WIDEST = {"bump": 4, "edge": 8}  # of an axis, so many steps are at least its length
_SHIFTS = 4  # centres a step
_OPPONENT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)


@dataclass(frozen=True)
class Group:
    """The functions of an axis of one kind and width."""

    kind: Kind
    width: int  # of a step, in pixels
    first: int  # number of the first of them
    every: int  # pixels between centres


@dataclass(frozen=True)
class AxisFamily:
    """The functions along an axis of so many pixels, of coordinates in [-1, 1]."""

    pixels: int

    @cached_property
    def groups(self) -> list[Group]:
        """All kinds and widths, one after another."""
        kinds: list[tuple[Kind, int]] = [("hat", 1)]
        for kind, steps in (("bump", _WIDEST["bump"]), ("edge", _WIDEST["edge"])):
            kinds += [(kind, 2**level) for level in range(max(1, (self.pixels // steps).bit_length()))]  # type: ignore[misc]
        found, first = list[Group](), 0
        for kind, width in kinds:
            every = max(1, width // _SHIFTS)
            found.append(Group(kind, width, first, every))
            first += -(-self.pixels // every)
        return found

    @property
    def size(self) -> int:
        """How many there are."""
        last = self.groups[-1]
        return last.first + -(-self.pixels // last.every)

    def evaluate(self, coords: Float[Tensor, "C"], chosen: Int[Tensor, "N"]) -> Float[Tensor, "N C"]:
        """The chosen ones at coordinates, which need not be those of the pixels."""
        position = (coords.double() + 1) * (self.pixels / 2) - 0.5
        found = torch.empty(len(chosen), len(coords), dtype=torch.float64, device=coords.device)
        starts = torch.tensor([group.first for group in self.groups], device=chosen.device)
        which = torch.bucketize(chosen, starts, right=True) - 1
        for number, group in enumerate(self.groups):
            (own,) = torch.nonzero(which == number, as_tuple=True)
            centre = (chosen[own] - group.first) * group.every
            found[own] = _KINDS[group.kind]((position - centre[:, None]) / group.width)
        return found.to(coords.dtype)

    def centres(self, chosen: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """The pixels on which they are centred."""
        starts, every = (
            torch.tensor([getattr(group, name) for group in self.groups], device=chosen.device)
            for name in ("first", "every")
        )
        which = torch.bucketize(chosen, starts, right=True) - 1
        return (chosen - starts[which]) * every[which]


def colour_directions(channels: int) -> Float[Tensor, "d d"]:
    """Orthonormal rows: of three channels grey, red against blue, and green against both; otherwise each channel."""
    if channels != 3:
        return torch.eye(channels)
    return (_OPPONENT / _OPPONENT.norm(dim=1, keepdim=True)).float()


def _hat(u: Tensor) -> Tensor:
    return (1 - u.abs()).clamp_min(0)


def _quadratic(u: Tensor) -> Tensor:
    size = u.abs()
    return torch.where(size < 0.5, 0.75 - size.square(), (1.5 - size).clamp_min(0).square() / 2)


def _cubic(u: Tensor) -> Tensor:
    size = u.abs()
    return torch.where(size < 1, 2 / 3 - size.square() + size**3 / 2, (2 - size).clamp_min(0) ** 3 / 6)


def _edge(u: Tensor) -> Tensor:
    return _quadratic(u + 0.5) - _quadratic(u - 0.5)


_KINDS = {"hat": _hat, "bump": _cubic, "edge": _edge}
