"""What a task gives a training step: this rank's part of a micro-batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Signals of a micro-batch.

    Args:
        values: on the model's lattice, or at each signal's own coordinates.
        ids: which training signals they are.
        subset: which coordinates count in the data term; None: all.
        noise_seeds: of the noisy top-k, one per signal, so that the noise does not depend on how a batch is cut.
        weight: of this part of the micro-batch, such that the mean of weighted losses over all ranks is the loss of the
            micro-batch: 1 where all ranks have equally many signals. A rank for which none is left has one of weight 0.
        coords: each signal's own; None: the model's lattice.
        seen: what the gate is shown; None: the values.
    """

    values: Float[Tensor, "T C d"]
    ids: Int[Tensor, "T"]
    subset: Int[Tensor, "c"] | None
    noise_seeds: Int[Tensor, "T"]
    weight: float = 1.0
    coords: Float[Tensor, "T C m"] | None = None
    seen: Float[Tensor, "T P c"] | None = None

    @property
    def shown(self) -> Tensor:
        """What the gate is shown."""
        return self.values if self.seen is None else self.seen

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        subset, coords, seen = (None if x is None else x.to(device) for x in (self.subset, self.coords, self.seen))
        return Batch(self.values.to(device), self.ids.to(device), subset, self.noise_seeds, self.weight, coords, seen)
