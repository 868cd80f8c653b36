"""What a task gives a training step: this rank's part of a micro-batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Signals of a micro-batch.

    Args:
        values: on the model's grid, or at each signal's own coordinates.
        ids: which training signals they are.
        subset: which coordinates count in the data term; None: all.
        noise_seeds: of the noisy top-k, one per signal, so that the noise does not depend on how a batch is cut.
        weight: of this part of the micro-batch, such that the mean of weighted losses over all ranks is the loss of the
            micro-batch: 1 where all ranks have equally many signals. A rank for which none is left has one of weight 0.
        coords: each signal's own; None: the model's grid.
        weights: of the values in the data term, 0 where one is missing; None: 1 everywhere.
        make_gate_input: makes what a gate sees of the signals on the model's grid, where it sees no signals; None: the
            values. Made when it is asked for, as a gate does not look on in every phase.
    """

    values: Float[Tensor, "T C d"]
    ids: Int[Tensor, "T"]
    subset: Int[Tensor, "c"] | None
    noise_seeds: Int[Tensor, "T"]
    weight: float = 1.0
    coords: Float[Tensor, "T C m"] | None = None
    make_gate_input: Callable[[], Float[Tensor, "T G d"]] | None = None
    weights: Float[Tensor, "T C"] | None = None

    @property
    def gate_input(self) -> Float[Tensor, "T G d"]:
        """What a gate sees."""
        return self.values if self.make_gate_input is None else self.make_gate_input().to(self.values.device)

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        optional = (self.subset, self.coords, self.weights)
        subset, coords, weights = (None if x is None else x.to(device) for x in optional)
        values, ids = self.values.to(device), self.ids.to(device)
        return replace(self, values=values, ids=ids, subset=subset, coords=coords, weights=weights)
