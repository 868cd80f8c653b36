"""The pointnet gate: codes of shapes from clouds of points on their surfaces (Qi et al. 2017)."""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.layers import CodeHead
from nid_dist.dictionary.activations import UnsetLinear, initialise_linear
from nid_dist.errors import UserError

COLUMNS = 6  # of a point: where it lies, and its normal; zeros where no normal is known


class PointNetGate(nn.Module):
    """A network of each point, pooled over the points: no order and no number of them is built in.

    Two rounds: what the points have in common is told to each of them before the second. Largest values and means are
    pooled, since the largest of few points is another than that of many, and the mean is not. `width` is that of the
    first layers; the pooled features are eight times as many.
    """

    def __init__(
        self, *, experts: int, channels: int, width: int, generator: torch.Generator, rank: int | None = None
    ) -> None:
        super().__init__()
        self.first = _network([COLUMNS, width, 2 * width], generator)
        self.second = _network([6 * width, 4 * width, 4 * width], generator)
        self.third = _network([8 * width, 4 * width], generator)
        self.head = CodeHead(4 * width, experts, channels, generator, bias=0.0, rank=rank)

    def forward(self, values: Float[Tensor, "T P c"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Predict codes from points of each shape with their normals, or zeros for these.

        Raises:
            UserError: for clouds of other columns, or without points.
        """
        if values.shape[2] != COLUMNS or not values.shape[1]:
            raise UserError(
                "coding.gate",
                found=f"clouds of {values.shape[1]} points with {values.shape[2]} columns",
                expected=f"points with {COLUMNS} columns, place and normal (zeros where it is not known)",
                hint="give the surface's points, not values of f",
            )
        own = self.first(values)
        common = _pooled(own)[:, None].expand(-1, own.shape[1], -1)
        pooled = _pooled(self.second(torch.cat([own, common], 2)))
        output: GateOutput = self.head(self.third(pooled))
        return output


def _pooled(features: Float[Tensor, "T P c"]) -> Float[Tensor, "T pooled"]:
    return torch.cat([features.amax(1), features.mean(1)], 1)


def _network(widths: list[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers, each normalised over its features (whatever the number of points) and followed by a ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = UnsetLinear(inputs, outputs)
        initialise_linear(linear.weight, linear.bias, activation="relu", first=False, omega=1.0, generator=generator)
        layers += [linear, nn.LayerNorm(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
