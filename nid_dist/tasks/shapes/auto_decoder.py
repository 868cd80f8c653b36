"""DeepSDF's auto-decoder (Park et al. 2019): one network for all shapes, a latent vector for each, learned by descent.

A new shape is fitted by descent on its latent vector alone. f is the truncated distance in units of the truncation, as
the dictionary's, and the last layer ends in tanh; a skip connection gives the input again to the middle layer.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from nid_dist.baselines.cache import found_again, keep
from nid_dist.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section
from nid_dist.device import Stopwatch, resolve_device
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.task import ShapeTask


class AutoDecoderConfig(Section):
    """Sizes and training of an auto-decoder."""

    latent: PositiveInt = Field(128, description="numbers of a shape")
    width: PositiveInt = 256
    layers: PositiveInt = Field(4, description="hidden layers; the input is given again to the one in the middle")
    lr: PositiveFloat = 1e-3
    batch: PositiveInt = Field(16, description="shapes in a step")
    steps: PositiveInt = 2000
    seconds: PositiveFloat | None = Field(None, description="end after this time")
    prior: NonNegativeFloat = Field(1e-4, description="weight of the latent vectors' squared norm")
    fit_points: PositiveInt = Field(512, description="drawn for each of these steps")
    fit_steps: PositiveInt = Field(400, description="on the latent vector of a new shape")
    fit_lr: PositiveFloat = 5e-3
    seed: int = 0


class AutoDecoder(nn.Module):
    """The network, with a latent vector for each training shape."""

    def __init__(self, config: AutoDecoderConfig, shapes: int) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.latents = nn.Embedding(shapes, config.latent)
            nn.init.normal_(self.latents.weight, std=0.01)
            inputs = [3 + config.latent] + [config.width] * config.layers
            middle = config.layers // 2
            inputs[middle] += 3 + config.latent if middle else 0
            self.layers = nn.ModuleList(nn.Linear(each, config.width) for each in inputs[:-1])
            self.last = nn.Linear(config.width, 1)
        self.middle = middle

    def forward(self, latents: Float[Tensor, "T l"], coords: Float[Tensor, "T C 3"]) -> Float[Tensor, "T C 1"]:
        """f of each latent vector at coordinates of its own."""
        given = torch.cat([coords, latents[:, None].expand(-1, coords.shape[1], -1)], 2)
        hidden = given
        for place, layer in enumerate(self.layers):
            hidden = F.relu(layer(torch.cat([hidden, given], 2) if place and place == self.middle else hidden))
        return torch.tanh(self.last(hidden))

    def fit(
        self, coords: Float[Tensor, "M 3"], values: Float[Tensor, "M"], weights: Float[Tensor, "M"]
    ) -> Float[Tensor, "1 l"]:
        """The latent vector of a new shape, by descent, as the paper fits it to values of f, each with its weight."""
        device = self.last.weight.device
        coords, values, weights = coords.to(device), values.to(device), weights.cpu()
        latent = torch.zeros(1, self.config.latent, device=device, requires_grad=True)
        optimizer = torch.optim.Adam([latent], lr=self.config.fit_lr)
        generator = torch.Generator().manual_seed(self.config.seed)
        for step in range(self.config.fit_steps):
            if step == self.config.fit_steps // 2:
                optimizer.param_groups[0]["lr"] /= 10
            # Drawn by their weights, as the paper draws half near the surface.
            chosen = torch.multinomial(weights, self.config.fit_points, True, generator=generator).to(device)
            found = self(latent, coords[chosen][None])[0, :, 0]
            error = (found - values[chosen]).abs().mean()
            loss = error + self.config.prior * latent.square().sum()
            (latent.grad,) = torch.autograd.grad(loss, latent)
            optimizer.step()
        return latent.detach()


def train_auto_decoder(
    config: AutoDecoderConfig, shapes: int, batch: Callable[[int], tuple[Tensor, Tensor, Tensor]], kept: Path
) -> AutoDecoder:
    """Train it, or read the one that was trained before and is kept in a file.

    `batch` gives ids, coordinates and values of a step, cut to [-1, 1].

    Raises:
        UserError: when the file is damaged, or another configuration has trained it.
    """
    device = resolve_device("auto")
    model = AutoDecoder(config, shapes).to(device)
    # How a new shape is fitted may change.
    trained_by = config.model_dump_json(exclude={"fit_points", "fit_steps", "fit_lr"})
    facts = {"config": trained_by, "shapes": str(shapes)}
    if kept.is_file():
        model.load_state_dict(found_again(kept, facts, "auto-decoder"))
        return model.eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    clock, done, step = Stopwatch(device), 0.0, 0
    while done < 1:
        ids, coords, values = (part.to(device) for part in batch(step))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, 2 - 2 * done)
        latents = model.latents(ids)
        error = (model(latents, coords) - values).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        (error + config.prior * latents.square().sum(1).mean()).backward()
        optimizer.step()
        step += 1
        done = max(step / config.steps, clock.seconds() / config.seconds if config.seconds else 0.0)
    keep(kept, {name: value.cpu().contiguous() for name, value in model.state_dict().items()}, facts)
    return model.eval().requires_grad_(False)


def trained_auto_decoder(config: AutoDecoderConfig, task: ShapeTask, kept: Path) -> AutoDecoder:
    """An auto-decoder of a task's training shapes, as `train_auto_decoder` makes it."""
    world = World(Topology(1))
    sized = task.config.model_copy(deep=True)
    sized.training.batch = config.batch
    sized.signals_of(ShapesSection).augment = False  # a latent vector for each shape does not follow its changes
    own = ShapeTask(sized)

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        drawn = own.batch(step, 0, world)
        own.prefetch(step + 1, world)
        return drawn.ids, drawn.samples.coords, drawn.samples.values

    return train_auto_decoder(config, len(task.signals), batch, kept)
