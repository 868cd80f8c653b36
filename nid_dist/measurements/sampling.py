"""R as sampling: the signal is measured at coordinates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Field = Callable[[Tensor], Tensor]
"""A vector-valued function of coordinates, [C, m] to [C, p]."""


@runtime_checkable
class Measurement(Protocol):
    """A linear operator R from functions to M numbers per channel."""

    @property
    def size(self) -> int:
        """M, the number of measurements."""
        ...

    def chunks(self, field: Field, rows: int) -> Iterator[tuple[slice, Tensor]]:
        """R applied to every component of a field, about `rows` measurements at a time: (which, [M', p])."""
        ...


@dataclass(frozen=True)
class Sampling:
    """R f = f at the coordinates."""

    coords: Float[Tensor, "C m"]  # in [-1, 1]^m

    @property
    def size(self) -> int:
        """C."""
        return len(self.coords)

    def chunks(self, field: Field, rows: int) -> Iterator[tuple[slice, Tensor]]:
        """The field at `rows` coordinates at a time."""
        for first in range(0, self.size, rows):
            part = slice(first, min(first + rows, self.size))
            yield part, field(self.coords[part])
