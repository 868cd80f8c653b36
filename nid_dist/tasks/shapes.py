"""Signed distances as signals: every shape measured at points of its own, f negative inside it."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.code import Code
from nid_dist.coding.fitting import Method, fit_signals
from nid_dist.config.schema import Config
from nid_dist.data.lattice import lattice
from nid_dist.data.sampler import batch_ids
from nid_dist.data.shapes import open_shapes
from nid_dist.data.splits import SPLITS, Split, assign_splits
from nid_dist.model import Model
from nid_dist.parallel.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.tasks.base import Picture, own_part, split_to_evaluate
from nid_dist.tasks.batch import Batch

POINTS = 2048
_SHAPES = 4  # that an evaluation fits
_SIDE = 64  # of the slice that is shown
# Independent draws of points: for the steps; for the fit in an evaluation; and for its error.
_TRAINED, _FITTED, _MEASURED = range(3)


class ShapeTask:
    """The shapes of a configuration, kept apart as train, val and test.

    What f learns is the signed distance cut at ± `signals.truncation` and divided by it, so that it lies in [-1, 1]
    whatever the truncation: the surface is where f = 0.

    Args:
        config: the whole configuration.

    Raises:
        UserError: when the shapes cannot be listed or split.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.channels = config, 1
        self.grid: tuple[int, ...] = (config.signals.lattice,) * 3
        self.source = open_shapes(config.signals)
        names = self.source.names
        splits = assign_splits(names, config.signals.val, config.signals.test, where="the shapes")
        places = {name: index for index, name in enumerate(names)}
        self.shapes: dict[Split, list[int]] = {
            split: [places[name] for name in splits[split][: config.signals.limit]] for split in SPLITS
        }
        """Indices in the source."""
        self.signals = self.shapes["train"]

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these shapes, all its values from the seed."""
        return Model(self.config, channels=self.channels, grid=self.grid, signals=len(self.signals), exchange=exchange)

    @property
    def coordinates(self) -> int:
        """C, the points of a shape in a step."""
        return self.config.training.coordinates or POINTS

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch; a shape's points depend on (seed, step, shape) only."""
        training = self.config.training
        part, weight = own_part(training, self.config.optimizer.accumulation, micro, world)
        ids = batch_ids(training.seed, step, training.batch, len(self.signals))[part]
        drawn = [self._draw(self.signals[signal], _TRAINED, step) for signal in ids.tolist()]
        coords, values = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        noise = np.random.SeedSequence([training.seed, step]).generate_state(training.batch, np.uint32)[part]
        return Batch(values, ids, None, torch.from_numpy(noise.astype(np.int64)), weight, coords)

    def prefetch(self, step: int, world: World) -> None:
        """Nothing is read."""

    def sample(self, count: int) -> Float[Tensor, "S C d"]:
        """Training shapes on the lattice."""
        seed, signals = self.config.training.seed, len(self.signals)
        ids = batch_ids(seed, 0, min(count, signals), signals).tolist()
        coords = lattice(self.grid)
        return torch.stack([self._values(self.signals[signal], coords) for signal in ids])

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """Error of the (cut) distance at fresh points, in box units, and the share of them with the right sign."""
        split = split_to_evaluate(self.shapes)
        shapes, method = self.shapes[split][:_SHAPES], self._method
        scores = torch.zeros(len(shapes), 2, dtype=torch.float64)
        for place in range(world.rank, len(shapes), world.size):
            coords, values = self._draw(shapes[place], _MEASURED)
            found = self._evaluate(model, self._fit(model, shapes[place]), coords)
            scores[place, 0] = self.config.signals.truncation * (found - values).abs().mean()
            scores[place, 1] = ((found < 0) == (values < 0)).double().mean()
        distance, sign = world.total(scores).mean(0).tolist()
        return {f"{split}/distance_{method.label}": distance, f"{split}/sign_{method.label}": sign}

    def pictures(self, model: Model) -> dict[str, Picture]:
        """The upright slice through the middle of a shape, true and fitted; mid grey is its surface."""
        split = split_to_evaluate(self.shapes)
        index = self.shapes[split][0]
        coords = lattice((1, _SIDE, _SIDE))
        both = [self._values(index, coords), self._evaluate(model, self._fit(model, index), coords)]
        shown = [(0.5 + 0.5 * values).reshape(_SIDE, _SIDE, 1).flip(0) for values in both]
        return {f"{split}/{self.source.names[index]}": torch.cat(shown, 1).numpy()}

    @property
    def _method(self) -> Method:
        return Method("omp", self.config.coding.blocks)

    def _draw(self, index: int, purpose: int, step: int = 0) -> tuple[Float[Tensor, "C 3"], Float[Tensor, "C 1"]]:
        """Points of a shape, mostly near its surface, with f's values there."""
        sequence = np.random.SeedSequence(self.config.training.seed, spawn_key=(purpose, step, index))
        generator = np.random.Generator(np.random.PCG64(sequence))
        near = self.config.signals.near_surface
        points, distances = self.source.sample(index, self.coordinates, near, generator)
        return torch.from_numpy(points).float(), self._cut(distances)

    def _values(self, index: int, coords: Float[Tensor, "C 3"]) -> Float[Tensor, "C 1"]:
        return self._cut(self.source.distance(index, coords.double().numpy()))

    def _cut(self, distances: Float[np.ndarray, "C"]) -> Float[Tensor, "C 1"]:
        return torch.from_numpy(np.clip(distances / self.config.signals.truncation, -1, 1)).float()[:, None]

    def _fit(self, model: Model, index: int) -> Code:
        coords, values = (part.to(model.coords.device) for part in self._draw(index, _FITTED))
        return fit_signals(model, values[None], coords, [self._method])[self._method.label].solution.code

    @torch.no_grad()
    def _evaluate(self, model: Model, code: Code, coords: Float[Tensor, "C 3"]) -> Float[Tensor, "C 1"]:
        return model.dictionary(code, coords.to(model.coords.device))[0].clamp(-1, 1).cpu()
