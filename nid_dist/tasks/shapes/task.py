"""Signed distances as signals: every shape measured at points of its own, f negative inside it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.sampler import batch_ids
from nid_dist.data.splits import SPLITS, Split, assign_splits
from nid_dist.errors import UserError
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.base import Picture, draw, split_to_evaluate
from nid_dist.tasks.shapes.augmentation import change_samples, draw_change
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.signals import BothShapes, ShapeSource, open_shapes

_BOX = 2000  # points of a surface that tell how large a changed shape is
_SHAPES = 4  # that an evaluation fits
_UNSEEN = 2**40  # the first of the steps whose batches no training draws
_SIDE = 64  # of the slice that is shown
# Independent draws of points: for the steps; for the fit in an evaluation; and for its error.
_TRAINED, _FITTED, _MEASURED = range(3)


class ShapeTask:
    """The shapes of a configuration, kept apart as train, val and test.

    What f learns is the signed distance cut at ± `signals.truncation` and divided by it, so that it lies in [-1, 1]
    whatever the truncation: the surface is where f = 0.

    Raises:
        UserError: when the shapes cannot be listed or split.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.section = config, config.signals_of(ShapesSection)
        self.channels = self.section.channels
        self.grid_shape: tuple[int, ...] = self.section.grid_shape
        self.source = open_shapes(self.section)
        names = self.source.names
        splits = _splits(self.source, self.section)
        places = {name: index for index, name in enumerate(names)}
        self.shapes: dict[Split, list[int]] = {
            split: [places[name] for name in splits[split][: self.section.limit]] for split in SPLITS
        }
        """Indices in the source."""
        self.signals = self.shapes["train"]
        # One thread reads the next step's shapes meanwhile; reading and numpy release the interpreter's lock.
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._coming: dict[tuple[int, int, int], Future[Batch]] = {}

    @property
    def prepared(self) -> ShapeSource:
        """The source without the procedural shapes that are trained on besides."""
        return self.source.prepared if isinstance(self.source, BothShapes) else self.source

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these shapes, all its values from the seed."""
        return Model(
            self.config,
            channels=self.channels,
            grid_shape=self.grid_shape,
            signals=len(self.signals),
            exchange=exchange,
        )

    @property
    def coordinates(self) -> int:
        """C, the points of a shape in a step."""
        return self.config.training.coordinates or self.section.points

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch; a shape's points depend on (seed, step, shape) only."""
        coming = self._coming.pop((step, micro, world.rank), None)
        return self._read(step, micro, world) if coming is None else coming.result()

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's shapes of a step in the background."""
        for key in [key for key in self._coming if key[0] < step]:
            self._coming.pop(key).cancel()
        for micro in range(self.config.optimizer.accumulation):
            key = (step, micro, world.rank)
            if key not in self._coming:
                self._coming[key] = self._ahead.submit(self._read, step, micro, world)

    def _read(self, step: int, micro: int, world: World) -> Batch:
        chosen = draw(self.config, step, micro, world, len(self.signals))
        drawn = [self._draw(self.signals[signal], _TRAINED, step) for signal in chosen.ids.tolist()]
        coords, values, *clouds = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        return chosen.batch(Samples(coords, values), (lambda: clouds[0]) if clouds else None)

    def sample(self, count: int) -> Samples:
        """Training shapes on the grid."""
        seed, signals = self.config.training.seed, len(self.signals)
        ids = batch_ids(seed, 0, min(count, signals), signals).tolist()
        coords = coordinate_grid(self.grid_shape)
        return Samples(coords, torch.stack([self._values(self.signals[signal], coords) for signal in ids]))

    def prior_samples(self, count: int, world: World) -> Iterator[tuple[Samples, int]]:
        """Shapes as a training sees them, changed ones included, at points that it has not seen."""
        for step in range(max(1, count // self.config.training.batch)):
            for micro in range(self.config.optimizer.accumulation):
                batch = world.raise_on_all_ranks(partial(self.batch, _UNSEEN + step, micro, world))
                yield batch.samples, len(batch.samples) if batch.weight else 0

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """Error of the (cut) distance at fresh points, in box units, and the share of them with the right sign."""
        split = split_to_evaluate(self.shapes)
        shapes, method = self.shapes[split][:_SHAPES], self._method
        scores = torch.zeros(len(shapes), 2, dtype=torch.float64)
        for place in range(world.rank, len(shapes), world.size):
            coords, values = self._draw(shapes[place], _MEASURED)[:2]
            found = self._evaluate(model, self._fit(model, shapes[place]), coords)
            scores[place, 0] = self.section.truncation * (found - values).abs().mean()
            scores[place, 1] = ((found < 0) == (values < 0)).double().mean()
        distance, sign = world.all_reduce_sum(scores).mean(0).tolist()
        return {f"{split}/distance_{method.label}": distance, f"{split}/sign_{method.label}": sign}

    def pictures(self, model: Model) -> dict[str, Picture]:
        """The upright slice through the middle of a shape, true and fitted; mid grey is its surface."""
        split = split_to_evaluate(self.shapes)
        index = self.shapes[split][0]
        coords = coordinate_grid((1, _SIDE, _SIDE))
        both = [self._values(index, coords), self._evaluate(model, self._fit(model, index), coords)]
        shown = [(0.5 + 0.5 * values).reshape(_SIDE, _SIDE, 1).flip(0) for values in both]
        return {f"{split}/{self.source.names[index]}": torch.cat(shown, 1).numpy()}

    @property
    def _method(self) -> Method:
        return Method("omp", self.config.coding.blocks)

    def _draw(self, index: int, purpose: int, step: int = 0) -> tuple[Tensor, ...]:
        """Points of a shape, mostly near its surface, with f's values there; for a pointnet, also what it is shown."""
        sequence = np.random.SeedSequence(self.config.training.seed, spawn_key=(purpose, step, index))
        generator = np.random.Generator(np.random.PCG64(sequence))
        signals, count = self.section, self.coordinates
        change = None
        prepared = self.prepared
        if (
            signals.augment
            and purpose == _TRAINED
            and isinstance(prepared, PreparedShapes)
            and index < len(prepared.names)
        ):
            on = prepared.surface(index, _BOX, generator)[0]
            change = draw_change(on, signals.stretch, signals.turn, generator)
            points, distances, gradients = prepared.sample_with_gradients(index, count, signals.near_surface, generator)
            near = round(signals.near_surface * count)
            points, distances = change_samples(change, points, distances, gradients, near, generator)
        else:
            points, distances = self.source.sample(index, count, signals.near_surface, generator)
        drawn = (torch.from_numpy(points).float(), self._cut(distances))
        if self.config.coding.gate.kind != "pointnet":
            return drawn
        on, normals = self.source.surface(index, signals.cloud, generator)
        if change is not None:
            on, normals = change.points(on), change.normals(normals)[0]
        # Clouds without normals are to be read, too.
        return *drawn, torch.from_numpy(np.concatenate([on, normals * generator.integers(2)], 1)).float()

    def _values(self, index: int, coords: Float[Tensor, "C 3"]) -> Float[Tensor, "C 1"]:
        return self._cut(self.source.distance(index, coords.double().numpy()))

    def _cut(self, distances: Float[np.ndarray, "C"]) -> Float[Tensor, "C 1"]:
        return torch.from_numpy(np.clip(distances / self.section.truncation, -1, 1)).float()[:, None]

    def _fit(self, model: Model, index: int) -> Code:
        coords, values = (part.to(model.device) for part in self._draw(index, _FITTED)[:2])
        return fit_signals(model, Sampling(coords), values[None], [self._method])[self._method.label].code

    @torch.no_grad()
    def _evaluate(self, model: Model, code: Code, coords: Float[Tensor, "C 3"]) -> Float[Tensor, "C 1"]:
        return model.dictionary(code, coords.to(model.device))[0].clamp(-1, 1).cpu()


def _splits(source: ShapeSource, signals: ShapesSection) -> dict[Split, list[str]]:
    """As the shapes were prepared for, where that was said; procedural shapes besides them are trained on."""
    prepared = source.prepared if isinstance(source, BothShapes) else source
    if not isinstance(prepared, PreparedShapes):
        return assign_splits(source.names, signals.val, signals.test, where="the shapes", noun="shape")
    said = [prepared.split(index) for index in range(len(prepared.names))]
    if any(said):
        named = list(zip(prepared.names, said, strict=True))
        splits: dict[Split, list[str]] = {split: [name for name, its in named if its == split] for split in SPLITS}
        _require_training(splits, signals)
    else:
        splits = assign_splits(prepared.names, signals.val, signals.test, where="the shapes", noun="shape")
    splits["train"] += source.names[len(prepared.names) :]
    return splits


def _require_training(splits: dict[Split, list[str]], signals: ShapesSection) -> None:
    if not splits["train"]:
        raise UserError(
            f"signals.path {signals.path}",
            found="no shape of the split train",
            expected="shapes to train on",
            hint="prepare them with splits, or without it and with signals.val and signals.test",
        )
