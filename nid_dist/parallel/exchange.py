"""The seam through which codes reach the experts' owners and partial sums come back.

The mathematics calls `dispatch`, `share` and `combine` and does not know which form it has: the local one below (all
experts here, nothing sent) or one that crosses ranks.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.code import Code


@runtime_checkable
class Exchange(Protocol):
    """Moves codes to experts and partial sums back, differentiably.

    R ranks share n experts, E = n / R each; S = R * T is the number of signals of all of them.
    """

    ranks: int
    """R, over how many ranks the experts are spread."""

    first_expert: int
    """Global index of the first expert held here; the E experts held here are consecutive."""

    bytes_sent: int
    """Bytes that this rank has sent to others so far."""

    def dispatch(self, code: Code) -> Code:
        """The part of all S codes that concerns the experts held here, indices from 0 to E - 1."""
        ...

    def share(self, rows: Float[Tensor, "T *rest"]) -> Float[Tensor, "S *rest"]:
        """What every rank holds for its own signals, stacked in the order of `dispatch`."""
        ...

    def combine(self, partial: Float[Tensor, "S *rest"]) -> Float[Tensor, "T *rest"]:
        """For this rank's signals, the sum over ranks of the partial sums of `dispatch`ed codes."""
        ...


@dataclass
class LocalExchange:
    """All experts are here: nothing is sent."""

    ranks: int = 1
    first_expert: int = 0
    bytes_sent: int = 0

    def dispatch(self, code: Code) -> Code:
        """The code itself."""
        return code

    def share(self, rows: Float[Tensor, "T *rest"]) -> Float[Tensor, "T *rest"]:
        """The rows themselves."""
        return rows

    def combine(self, partial: Float[Tensor, "T *rest"]) -> Float[Tensor, "T *rest"]:
        """The sums themselves: they are complete."""
        return partial
