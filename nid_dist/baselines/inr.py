"""A network per signal: SIREN (Sitzmann et al. 2020) and Fourier features with an MLP (FFM, Tancik et al. 2020).

Any coordinate dimension m and any number of channels d. What is fitted is a loss of the network: values at coordinates,
line integrals, or whatever a task needs (the eikonal and normal terms of a shape).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.baselines.config import Inr
from nid_dist.device import Stopwatch, resolve_device
from nid_dist.dictionary.activations import Sine, UnsetLinear, initialise_linear
from nid_dist.dictionary.encodings import Identity, Sinusoids
from nid_dist.dictionary.kernels import frequencies

_NUMBERS = 2**24  # activations evaluated at a time: bounds memory


class Network(nn.Module):
    """A coordinate network, R^m to R^d, its initial values from the generator (None: the configuration's seed)."""

    def __init__(self, config: Inr, in_dim: int, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.in_dim, self.channels = config, in_dim, channels
        generator = torch.Generator().manual_seed(config.seed) if generator is None else generator
        self.encoding: nn.Module = Identity(in_dim)
        inputs = in_dim
        if config.kind == "ffm":
            # The paper's coordinates are in [0, 1], ours in [-1, 1]: a cycle over the box is pi radians per unit of x.
            basis = frequencies("gaussian", config.features, in_dim, math.pi * config.scale, generator=generator)
            self.encoding, inputs = Sinusoids(basis), 2 * config.features
        self.layers: nn.ModuleList = nn.ModuleList()
        self.macs_per_coordinate = inputs * in_dim // 2 if config.kind == "ffm" else 0
        """Multiplications with an addition, to evaluate f at a coordinate: those of matrix products."""
        self.activations = nn.ModuleList()
        for layer in range(config.hidden_layers + 1):
            self.layers.append(self._linear(inputs, config.width, layer == 0, generator))
            self.macs_per_coordinate += inputs * config.width
            omega = config.first_omega if layer == 0 else config.omega
            self.activations.append(Sine(omega) if config.kind == "siren" else nn.ReLU())
            inputs = config.width
        self.layers.append(self._linear(inputs, channels, False, generator))
        self.macs_per_coordinate += inputs * channels

    def _linear(self, inputs: int, outputs: int, first: bool, generator: torch.Generator) -> nn.Linear:
        linear = UnsetLinear(inputs, outputs)
        initialise_linear(
            linear.weight,
            linear.bias,
            activation="sine" if self.config.kind == "siren" else "relu",
            first=first,
            omega=self.config.omega,
            generator=generator,
        )
        return linear

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch d"]:
        """f at coordinates in [-1, 1]^m."""
        values = self.encoding(coords)
        for layer, activation in zip(self.layers, self.activations, strict=False):  # the last has no activation
            values = activation(layer(values))
        values = self.layers[-1](values)
        if self.config.output == "linear":
            return values
        return (1 + values) / 2 if self.config.output == "unit" else values.sigmoid()

    @property
    def parameters_count(self) -> int:
        """Numbers that are fitted."""
        return sum(parameter.numel() for parameter in self.parameters())


Loss = Callable[[Network], Tensor]
"""What is to be made small, evaluated anew in every step (it may draw coordinates)."""

Watch = Callable[[Network], float]
"""A figure to follow, such as the PSNR; evaluated outside the clock."""


@dataclass(frozen=True)
class Fitted:
    """A network that was fitted to a signal."""

    network: Network  # frozen
    seconds: float  # that it took, without what was only watched
    steps: int  # gradient steps
    # Seconds and the watched figure (without one, the loss) on the way; the last is that of the end.
    trace: list[tuple[float, float]] = field(default_factory=list)

    @torch.no_grad()
    def render(self, coords: Float[Tensor, "C m"]) -> Float[Tensor, "C d"]:
        """f at any coordinates, in bounded memory, on the CPU; not clipped."""
        widest = max(self.network.config.width, 2 * self.network.config.features)
        device, parts = self.network.layers[0].weight.device, coords.split(max(1, _NUMBERS // widest))
        return torch.cat([self.network(part.to(device)) for part in parts]).cpu()


class Limits(TypedDict, total=False):
    """When a fit ends, and what is followed on the way."""

    steps: int | None  # gradient steps; None: the configuration's
    max_seconds: float | None  # after which it ends; None: only after the steps
    watch: Watch | None  # a figure to follow, some fifteen times in each tenfold of steps
    until: float | None  # it ends where the watched figure is this or above


class Baseline:
    """A kind of network, and how one is fitted to a signal, from some weights (None: random ones, from the seed).

    It computes on the device that `auto` is.
    """

    def __init__(self, config: Inr, start: Mapping[str, Tensor] | None = None) -> None:
        self.config, self.start, self.device = config, start, resolve_device("auto")

    def fit(
        self,
        coords: Float[Tensor, "C m"],
        values: Float[Tensor, "C d"],
        *,
        weights: Float[Tensor, "C"] | None = None,
        **limits: Unpack[Limits],
    ) -> Fitted:
        """Fit values at coordinates in [-1, 1]^m, by least squares.

        Where a coordinate's weight is 0 its value is unknown, and not looked at; without weights all are 1.
        """
        if weights is not None:
            known = weights > 0
            coords, values, weights = coords[known], values[known], weights[known].to(self.device)
        coords, values = coords.to(self.device), values.to(self.device)
        batch, draws = self.config.batch, torch.Generator().manual_seed(self.config.seed)
        # Epochs of shuffled coordinates, as data loaders make them.
        left: list[Tensor] = []

        def loss(network: Network) -> Tensor:
            where: Tensor | slice = slice(None)
            if batch is not None and batch < len(coords):
                if not left:
                    shuffled = torch.randperm(len(coords), generator=draws).to(self.device)
                    left.extend(shuffled[: len(coords) // batch * batch].split(batch))
                where = left.pop()
            errors = (network(coords[where]) - values[where]).square()
            return errors.mean() if weights is None else (weights[where, None] * errors).mean() / weights.mean()

        return self.minimise(loss, coords.shape[1], values.shape[1], **limits)

    def minimise(
        self,
        loss: Loss,
        in_dim: int,
        channels: int,
        *,
        steps: int | None = None,
        max_seconds: float | None = None,
        watch: Watch | None = None,
        until: float | None = None,
    ) -> Fitted:
        """Fit any loss of a network from R^in_dim to R^channels, differentiable in its weights; see `Limits`."""
        network = Network(self.config, in_dim, channels)
        if self.start is not None:
            network.load_state_dict(dict(self.start))
        network.to(self.device)
        steps = self.config.steps if steps is None else steps
        optimizer = self._optimizer(network)
        trace: list[tuple[float, float]] = []
        seconds, step, next_look = 0.0, 0, 1
        value = math.nan
        while True:
            done = step >= steps or (max_seconds is not None and seconds >= max_seconds)
            if done or step >= next_look:
                figure = value if watch is None else self._watched(network, watch)
                trace.append((seconds, figure))
                next_look = max(step + 1, math.ceil(1.17 * step))
                if done or (until is not None and watch is not None and figure >= until):
                    break
            clock = Stopwatch(self.device)
            progress = max(step / steps, seconds / max_seconds if max_seconds else 0.0)
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * self._rate(min(1.0, progress))
            optimizer.zero_grad(set_to_none=True)
            error = loss(network)
            error.backward()
            optimizer.step()
            value = float(error.detach())
            seconds, step = seconds + clock.seconds(), step + 1
        return Fitted(network.eval().requires_grad_(False), seconds, step, trace)

    @staticmethod
    def _watched(network: Network, watch: Watch) -> float:
        with torch.no_grad():
            return watch(network)

    def _optimizer(self, network: Network) -> torch.optim.Optimizer:
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), lr=self.config.lr)
        return torch.optim.Adam(network.parameters(), lr=self.config.lr)

    def _rate(self, progress: float) -> float:
        return 1.0 if self.config.schedule == "constant" else 0.5 + 0.5 * math.cos(math.pi * progress)
