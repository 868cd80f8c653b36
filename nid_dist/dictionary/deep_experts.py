"""Deep experts: two or more private layers each, stored as batched tensors and evaluated by batched products."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.dictionary.activations import initialise_linear, make_activation


class DeepExperts(nn.Module):
    """E independent small networks on the trunk's features (or on the encoding, without shared layers).

    Args:
        experts: E, experts held here.
        channels: d, outputs of each.
        width: h, inputs of each.
        private_layers: linear layers of each, at least 2.
        private_width: width between them.
        activation: between the layers.
        omega: frequency factor of the sine activation.
        first: whether the first private layer is the network's first (SIREN initialises it differently).
    """

    def __init__(
        self,
        experts: int,
        channels: int,
        width: int,
        private_layers: int,
        private_width: int,
        activation: str,
        omega: float,
        first: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.num_experts, self.channels, self.width = experts, channels, width
        self.activation = make_activation(activation, omega)
        sizes = [width] + [private_width] * (private_layers - 1) + [channels]
        self.weights = nn.ParameterList()
        self.offsets = nn.ParameterList()
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            weight, offset = torch.empty(experts, outputs, inputs), torch.empty(experts, outputs)
            initialise_linear(
                weight, offset, activation=activation, first=first and layer == 0, omega=omega, generator=generator
            )
            self.weights.append(nn.Parameter(weight))
            self.offsets.append(nn.Parameter(offset))

    @property
    def floats_per_coordinate(self) -> int:
        """Floats that evaluating one expert at one coordinate keeps in memory: every layer, before and after."""
        return 2 * sum(offset.shape[1] for offset in self.offsets)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What `evaluate` needs of the experts, their number first in each: weight and offset of every layer."""
        return tuple(p for layer in zip(self.weights, self.offsets, strict=True) for p in layer)

    def evaluate(self, features: Float[Tensor, "C h"], tensors: Sequence[Tensor]) -> Float[Tensor, "U C d"]:
        """As `LinearHeads.evaluate`."""
        weight, offset = tensors[:2]
        # All experts read the same features: one product with U * width columns.
        flat = torch.addmm(offset.reshape(-1), features, weight.reshape(-1, self.width).t())
        return self._later_layers(flat.unflatten(1, offset.shape).transpose(0, 1), tensors)

    def evaluate_per_signal(
        self, features: Float[Tensor, "P C h"], tensors: Sequence[Tensor]
    ) -> Float[Tensor, "P C d"]:
        """As `LinearHeads.evaluate_per_signal`."""
        weight, offset = tensors[:2]
        return self._later_layers(torch.baddbmm(offset[:, None], features, weight.transpose(1, 2)), tensors)

    def _later_layers(self, hidden: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        for weight, offset in zip(tensors[2::2], tensors[3::2], strict=True):
            hidden = torch.baddbmm(offset[:, None], self.activation(hidden), weight.transpose(1, 2))
        return hidden
