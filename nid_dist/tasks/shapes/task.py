"""Signed distances as signals: every shape measured at points of its own, f negative inside it."""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial

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
from nid_dist.device import to_device
from nid_dist.errors import UserError
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.ahead import Ahead
from nid_dist.tasks.base import Draw, Picture, draw, split_to_evaluate
from nid_dist.tasks.shapes.augmentation import BOX, change_samples, fitted_change
from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.draws import ProceduralDraw, Sizes, draw_prepared, draw_procedural
from nid_dist.tasks.shapes.on_device import Drawn, ShapesOnDevice
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.sending import Points
from nid_dist.tasks.shapes.signals import BothShapes, ProceduralShapes, ShapeSource, open_shapes

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
        cloud = self.section.cloud if config.coding.gate.kind == "pointnet" else 0
        self._sizes = Sizes.of(self.coordinates, self.section.near_surface, cloud)
        micros, steps = config.optimizer.accumulation, config.training.steps
        self._points_ahead, self._numbers_ahead = Ahead(self._read, micros, steps), Ahead(self._numbers, micros, steps)

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
        chosen, device = self._chosen(step, micro, world), world.device
        points: Points | None = None
        if self._made_on(device):
            shapes = [self.signals[signal] for signal in chosen.ids.tolist()]
            points = self._on_device.points(shapes, self._numbers_ahead.take(step, micro, world), device)
        if points is None:
            points = self._points_ahead.take(step, micro, world)
        coords, distances = (to_device(part, device) for part in points[:2])
        cloud = points[2]
        values = (distances / self.section.truncation).clamp(-1, 1)[..., None]
        return chosen.batch(Samples(coords, values), None if cloud is None else (lambda: cloud))

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's shapes of a step in the background, or to draw what their points are made from."""
        (self._numbers_ahead if self._made_on(world.device) else self._points_ahead).prefetch(step, world)

    @cached_property
    def _on_device(self) -> ShapesOnDevice:
        return ShapesOnDevice(self.source, self._sizes, changed=self.section.augment)

    def _made_on(self, device: torch.device) -> bool:
        """Whether a device makes the points itself."""
        return device.type != "cpu" and self._on_device.has_room(device)

    def _chosen(self, step: int, micro: int, world: World) -> Draw:
        return draw(self.config, step, micro, world, len(self.signals))

    def _numbers(self, step: int, micro: int, world: World) -> list[Drawn]:
        ids = self._chosen(step, micro, world).ids.tolist()
        return [self._draw(self.signals[signal], step) for signal in ids]

    def _read(self, step: int, micro: int, world: World) -> Points:
        ids = self._chosen(step, micro, world).ids.tolist()
        made = [self._make(self.signals[signal], step) for signal in ids]
        coords, distances, clouds = zip(*made, strict=True)
        cloud = None if clouds[0] is None else _stacked(clouds)
        return _stacked(coords), _stacked(distances), cloud

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
        scores = torch.zeros(len(shapes), 2 + (model.prior is not None), dtype=torch.float64)
        for place in range(world.rank, len(shapes), world.size):
            coords, values = self._measured(shapes[place], _MEASURED)
            code = self._fit(model, shapes[place])
            found = self._evaluate(model, code, coords)
            scores[place, 0] = self.section.truncation * (found - values).abs().mean()
            scores[place, 1] = ((found < 0) == (values < 0)).double().mean()
            scores[place, 2:] = model.mahalanobis(code) or 0.0
        distance, sign, *far = world.all_reduce_sum(scores).mean(0).tolist()
        figures = {f"{split}/distance_{method.label}": distance, f"{split}/sign_{method.label}": sign}
        return figures | {f"{split}/mahalanobis": value for value in far}

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

    def _draw(self, index: int, step: int) -> Drawn:
        """The numbers that make points of a shape in a step."""
        generator = self._generator(index, _TRAINED, step)
        if isinstance(self._of(index)[0], PreparedShapes):
            return draw_prepared(self._sizes, generator, self.section if self.section.augment else None)
        return draw_procedural(self._sizes, generator)

    def _generator(self, index: int, purpose: int, step: int = 0) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.config.training.seed, spawn_key=(purpose, step, index))
        return np.random.Generator(np.random.PCG64(sequence))

    def _make(
        self, index: int, step: int
    ) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "P"], Float[np.ndarray, "G 6"] | None]:
        """Points of a shape, mostly near its surface, with their distances; for a pointnet, also what it is shown."""
        (source, place), drawn, sizes = self._of(index), self._draw(index, step), self._sizes
        if isinstance(drawn, ProceduralDraw):
            assert isinstance(source, ProceduralShapes)
            points, distances = source.sample_from(place, drawn)
            on, normals = source.surface_at(place, drawn.cloud)
        else:
            assert isinstance(source, PreparedShapes)
            points, distances, gradients = source.samples(place, vars(sizes), vars(drawn))
            on, normals = source.surface_from(place, sizes.cloud, drawn.cloud)
            if drawn.matrix is not None:
                assert drawn.fresh is not None and drawn.picks is not None
                change = fitted_change(source.surface_from(place, BOX, drawn.box)[0], drawn.matrix)
                points, distances = change_samples(
                    change, points, distances, gradients, sizes.near, drawn.fresh, drawn.picks
                )
                on, normals = change.points(on), change.normals(normals)[0]
        # Clouds without normals are to be read, too.
        return points, distances, np.concatenate([on, normals * drawn.oriented], 1) if sizes.cloud else None

    def _of(self, index: int) -> tuple[ShapeSource, int]:
        """The source of a shape, and its index there."""
        return self.source.of(index) if isinstance(self.source, BothShapes) else (self.source, index)

    def _values(self, index: int, coords: Float[Tensor, "C 3"]) -> Float[Tensor, "C 1"]:
        return self._cut(self.source.distance(index, coords.double().numpy()))

    def _measured(self, index: int, purpose: int) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 1"]]:
        generator = self._generator(index, purpose)
        points, distances = self.source.sample(index, self.coordinates, self.section.near_surface, generator)
        return torch.from_numpy(points).float(), self._cut(distances)

    def _cut(self, distances: Float[np.ndarray, "C"]) -> Float[Tensor, "C 1"]:
        return torch.from_numpy(np.clip(distances / self.section.truncation, -1, 1)).float()[:, None]

    def _fit(self, model: Model, index: int) -> Code:
        coords, values = (to_device(part, model.device) for part in self._measured(index, _FITTED))
        return fit_signals(model, Sampling(coords), values[None], [self._method])[self._method.label].code

    @torch.no_grad()
    def _evaluate(self, model: Model, code: Code, coords: Float[Tensor, "C 3"]) -> Float[Tensor, "C 1"]:
        return model.dictionary(code, coords.to(model.device))[0].clamp(-1, 1).cpu()


def _stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float()


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
