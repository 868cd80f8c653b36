"""What was measured of signals, and where: complete and on one device, whatever the task; and the batch of a step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.device import to_device


@dataclass(frozen=True, init=False)
class Samples:
    """Values of T signals at C coordinates in [-1, 1]^m, which they share or have each their own.

    Weights of the values, 0 where one is missing, are 1 if not given: one number, expanded.
    """

    coords: Float[Tensor, "C m"] | Float[Tensor, "T C m"]
    values: Float[Tensor, "T C d"]
    weights: Float[Tensor, "T C"]
    weighted: bool = field(init=False)  # whether weights were given: else nobody has to multiply by them

    def __init__(
        self,
        coords: Float[Tensor, "C m"] | Float[Tensor, "T C m"],
        values: Float[Tensor, "T C d"],
        weights: Float[Tensor, "T C"] | None = None,
    ) -> None:
        ones = values.new_ones(()).expand(values.shape[:2]) if weights is None else weights
        self.__dict__.update(coords=coords, values=values, weights=ones, weighted=weights is not None)
        if not coords.device == values.device == ones.device:
            raise ValueError(f"samples on several devices: {coords.device}, {values.device}, {ones.device}")

    def __len__(self) -> int:
        """T, the number of signals."""
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """Of all of them."""
        return self.values.device

    @property
    def shared(self) -> bool:
        """Whether all signals have the same coordinates."""
        return self.coords.dim() == 2

    def to(self, device: torch.device) -> "Samples":
        """The same on another device."""
        coords, values = to_device(self.coords, device), to_device(self.values, device)
        return Samples(coords, values, to_device(self.weights, device) if self.weighted else None)

    def rows(self, part: slice) -> "Samples":
        """Some of the signals."""
        coords = self.coords if self.shared else self.coords[part]
        return Samples(coords, self.values[part], self.weights[part] if self.weighted else None)

    def at(self, chosen: Int[Tensor, "c"]) -> "Samples":
        """Some of the coordinates that all signals share."""
        return Samples(self.coords[chosen], self.values[:, chosen], self.weights[:, chosen] if self.weighted else None)


@dataclass(frozen=True)
class Batch:
    """This rank's part of a micro-batch."""

    samples: Samples
    # Which training signals they are.
    ids: Int[Tensor, "T"]
    # Of the noisy top-k, one per signal, so that the noise does not depend on how a batch is cut; on the CPU.
    noise_seeds: Int[Tensor, "T"]
    # Such that the mean of weighted losses over all ranks is the loss of the micro-batch: 1 where all ranks have
    # as many signals. A rank for which none is left has one of weight 0.
    weight: float = 1.0
    # Makes what a gate sees, where that is not the values; called when it is asked for: not every phase has a gate.
    make_gate_input: Callable[[], Float[Tensor, "T G c"]] | None = None
    # The noise, where it has been drawn.
    drawn_noise: Float[Tensor, "T n"] | None = None

    @cached_property
    def gate_input(self) -> Float[Tensor, "T G c"]:
        """What a gate sees."""
        if self.make_gate_input is None:
            return self.samples.values
        return to_device(self.make_gate_input(), self.samples.device)

    def noise(self, experts: int) -> Float[Tensor, "T n"]:
        """Standard normal numbers of each signal for all experts, drawn from its seed."""
        if self.drawn_noise is not None:
            return self.drawn_noise
        rows = [
            torch.randn(experts, generator=torch.Generator().manual_seed(seed)) for seed in self.noise_seeds.tolist()
        ]
        return to_device(torch.stack(rows), self.samples.device)

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return replace(self, samples=self.samples.to(device), ids=to_device(self.ids, device))

    def tensors(self, *, gate_input: bool, noise: int | None) -> dict[str, Tensor]:
        """All that a step reads of it, on the device; with what a gate sees, and the noise for so many experts."""
        samples = self.samples
        found = {"coords": samples.coords, "values": samples.values, "ids": self.ids}
        found |= {"weights": samples.weights} if samples.weighted else {}
        # What a gate sees may be the values themselves.
        found |= {"gate_input": self.gate_input} if gate_input and self.make_gate_input is not None else {}
        return found if noise is None else found | {"noise": self.noise(noise)}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Batch":
        """A batch of the same kind with other values: tensors by the names of `tensors`."""
        gate_input = tensors.get("gate_input")
        return replace(
            self,
            samples=Samples(tensors["coords"], tensors["values"], tensors.get("weights")),
            ids=tensors["ids"],
            drawn_noise=tensors.get("noise"),
            make_gate_input=None if gate_input is None else lambda: gate_input,
        )
