"""The temporal gate: codes as a continuous function of time, from waves over the length of the video."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.layers import CodeHead
from nid_dist.dictionary.activations import UnsetLinear, initialise_linear


class TemporalGate(nn.Module):
    """A small network on Fourier features of the time of a frame; the frame itself is not looked at.

    A video is then f(x, t), continuous in both. The `harmonics`, waves of 1/2, 1, ... harmonics / 2
    periods over the video, bound how fast a code can change.
    """

    times: Float[Tensor, "T"]
    waves: Float[Tensor, "harmonics"]

    def __init__(
        self,
        *,
        experts: int,
        channels: int,
        signals: int,
        width: int,
        harmonics: int,
        generator: torch.Generator,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        # Evenly spaced until `place` says when they are.
        self.register_buffer("times", torch.linspace(-1, 1, signals) if signals > 1 else torch.zeros(1))
        self.register_buffer("waves", 0.5 * math.pi * torch.arange(1, harmonics + 1), persistent=False)
        self.hidden = UnsetLinear(2 * harmonics, width)
        initialise_linear(
            self.hidden.weight, self.hidden.bias, activation="gelu", first=True, omega=1.0, generator=generator
        )
        self.head = CodeHead(width, experts, channels, generator, rank=rank)

    def place(self, times: Float[Tensor, "T"]) -> None:
        """Say when the frames are, in any unit, ascending; the first is mapped to -1 and the last to 1."""
        scaled = (times - times[0]) / (times[-1] - times[0]) if len(times) > 1 else times * 0 + 0.5
        self.times.copy_(2 * scaled.to(self.times) - 1)

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Codes of frames."""
        return self.at(self.times[ids])

    def at(self, times: Float[Tensor, "T"]) -> GateOutput:
        """Codes of any moment in [-1, 1], from the first frame to the last."""
        phase = (times[:, None] + 1) * self.waves
        features = torch.cat([phase.sin(), phase.cos()], 1)
        return self.head(nn.functional.gelu(self.hidden(features)))
