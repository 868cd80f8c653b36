"""Deep experts: two or more private layers each, stored as batched tensors and evaluated by batched products."""

import torch
from jaxtyping import Float, Int
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
        generator: of the initial values.
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
        self.experts, self.channels, self.width = experts, channels, width
        self.activation = make_activation(activation, omega)
        sizes = [width] + [private_width] * (private_layers - 1) + [channels]
        self.weights = nn.ParameterList()
        self.offsets = nn.ParameterList()
        for layer, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            weight, offset = torch.empty(experts, outputs, inputs), torch.empty(experts, outputs)
            initialise_linear(
                weight, offset, activation=activation, first=first and layer == 0, omega=omega, generator=generator
            )
            self.weights.append(nn.Parameter(weight))
            self.offsets.append(nn.Parameter(offset))

    @property
    def parameters_per_expert(self) -> int:
        """Numbers that one expert consists of."""
        return sum(p.numel() for p in self.parameters()) // self.experts

    def atoms(self, features: Float[Tensor, "C h"], first: int, last: int) -> Float[Tensor, "U C d"]:
        """Evaluate the experts first ... last - 1 at shared coordinates, U = last - first."""
        hidden: Tensor = features
        for layer, (weight, offset) in enumerate(zip(self.weights, self.offsets, strict=True)):
            if layer == 0:
                # All experts read the same features: one product with U * width columns.
                flat = torch.addmm(
                    offset[first:last].reshape(-1), features, weight[first:last].reshape(-1, features.shape[-1]).t()
                )
                hidden = flat.unflatten(1, (last - first, -1)).transpose(0, 1)
            else:
                hidden = torch.baddbmm(
                    offset[first:last][:, None], self.activation(hidden), weight[first:last].transpose(1, 2)
                )
        return hidden

    def atoms_per_signal(
        self, features: Float[Tensor, "P C h"], experts: Int[Tensor, "P"]
    ) -> Float[Tensor, "P C d"]:
        """Evaluate expert experts[p] at the p-th set of coordinates."""
        hidden: Tensor = features
        for layer, (weight, offset) in enumerate(zip(self.weights, self.offsets, strict=True)):
            hidden = self.activation(hidden) if layer else hidden
            hidden = torch.baddbmm(offset[experts][:, None], hidden, weight[experts].transpose(1, 2))
        return hidden
