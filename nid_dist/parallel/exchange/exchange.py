"""The seam through which codes reach the experts' owners and partial sums come back.

The mathematics calls `dispatch`, `share`, `combine` and `gather` and does not know which form it has: the local one
below (all experts here, nothing sent) or one that crosses ranks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from nid_dist.code import Code
from nid_dist.device import EventTimer


class Traffic:
    """What this rank has sent to others, and how long it waited for what they sent, since the last `reset`.

    Kinds: `codes` (to the owners, and their gradients back), `coordinates`, `sums` (back home, and their gradients to
    the owners) and `atoms` (experts gathered or fetched for a solver). On GPUs, which wait for each other while their
    processes go on, seconds are those that the GPU's stream waited; to read them is to wait for the GPU.

    Attributes:
        bytes: by kind.
    """

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self._timers: dict[str, EventTimer] = {}

    @contextmanager
    def message(self, kind: str, sent: int, device: torch.device) -> Iterator[None]:
        """Count a message of so many bytes, and the time that what happens inside takes."""
        timer = self._timers.setdefault(kind, EventTimer(device))
        timer.start()
        yield
        timer.stop()
        self.bytes[kind] = self.bytes.get(kind, 0) + sent

    @property
    def seconds(self) -> dict[str, float]:
        """By kind."""
        return {kind: timer.seconds() for kind, timer in self._timers.items()}

    def reset(self) -> None:
        """Start anew."""
        self.bytes.clear()
        self._timers.clear()


@runtime_checkable
class Exchange(Protocol):
    """Moves codes to experts and partial sums back, differentiably.

    R ranks share n experts, E = n / R each; S = R * T is the number of signals of all of them.
    """

    ranks: int
    """R, over how many ranks the experts are spread."""

    first_expert: int
    """Global index of the first expert held here; the E experts held here are consecutive."""

    traffic: Traffic
    """What was sent, and how long it took."""

    def dispatch(self, code: Code) -> Callable[[], Code]:
        """Send codes to the experts' owners, without waiting.

        Returns:
            A function that waits and gives the part of all S codes that concerns the experts held here, indices from 0
            to E - 1. To be called once, on every rank.
        """
        ...

    def share(self, rows: Float[Tensor, "T *rest"]) -> Float[Tensor, "S *rest"]:
        """What every rank holds for its own signals, stacked in the order of `dispatch`."""
        ...

    def combine(self, partial: Float[Tensor, "S *rest"], signals: int) -> Float[Tensor, "T *rest"]:
        """For this rank's T signals, the sum over ranks of the partial sums of `dispatch`ed codes."""
        ...

    def gather(self, part: Shaped[Tensor, "E *rest"]) -> Shaped[Tensor, "n *rest"]:
        """What every rank holds for its own experts, in the order of the experts; without gradient."""
        ...


@dataclass
class LocalExchange:
    """All experts are here: nothing is sent."""

    ranks: int = 1
    first_expert: int = 0
    traffic: Traffic = field(default_factory=Traffic)

    def dispatch(self, code: Code) -> Callable[[], Code]:
        """The code itself."""
        return lambda: code

    def share(self, rows: Float[Tensor, "T *rest"]) -> Float[Tensor, "T *rest"]:
        """The rows themselves."""
        return rows

    def combine(self, partial: Float[Tensor, "T *rest"], signals: int) -> Float[Tensor, "T *rest"]:
        """The sums themselves: they are complete."""
        return partial

    def gather(self, part: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, "n *rest"]:
        """The experts' themselves."""
        return part
