"""Shapes as signals: signed distances at points of the cube [-1, 1]^3, from a source of shapes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.draws import POOL, ProceduralDraw, Sizes, draw_procedural
from nid_dist.tasks.shapes.mesh import SIDE
from nid_dist.tasks.shapes.prepared import PreparedShapes
from nid_dist.tasks.shapes.solids import Solid

# Half of the points near a surface are this far from it, half that, in standard deviations (DeepSDF, Park et al. 2019).
SPREADS = (0.05, 0.0158)
_STEP = 1e-4  # of differences

Points = Float[np.ndarray, "P 3"]
Distances = Float[np.ndarray, "P"]


@runtime_checkable
class ShapeSource(Protocol):
    """Where shapes come from; each lies in the cube [-1, 1]^3, its second axis upwards."""

    names: Sequence[str]
    """Of all shapes, each unique; a shape's place here is its index."""

    def sample(self, index: int, count: int, near: float, generator: np.random.Generator) -> tuple[Points, Distances]:
        """Draw points of the cube with their signed distances to a shape.

        Points and distances, negative inside, are in box units: the cube's side is 2. A share of `near` is drawn near
        the surface; the others are uniform in the cube.
        """
        ...

    def distance(self, index: int, points: Points) -> Distances:
        """Signed distances to a shape at given points of the cube."""
        ...

    def surface(self, index: int, count: int, generator: np.random.Generator) -> tuple[Points, Points]:
        """Draw points of a shape's surface, with the normals that point out of it."""
        ...


class ProceduralShapes:
    """Furniture of boxes and rods, `chair`, `table` and `lamp` in turn: for development, and to begin with.

    A shape depends on the seed and its index alone.
    """

    def __init__(self, count: int, families: Sequence[str], seed: int) -> None:
        self.seed = seed
        self._families = [families[index % len(families)] for index in range(count)]
        self.names: Sequence[str] = [f"{family}-{index:05d}" for index, family in enumerate(self._families)]
        self._solids: dict[int, Solid] = {}
        self._pools: dict[int, Float32[np.ndarray, "POOL 3"]] = {}
        self._normals: dict[int, Float32[np.ndarray, "POOL 3"]] = {}

    def solid(self, index: int) -> Solid:
        """A shape itself."""
        if index not in self._solids:
            parts, draw = _Parts(), np.random.default_rng(np.random.SeedSequence([self.seed, index])).uniform
            FAMILIES[self._families[index]](parts, draw)
            self._solids[index] = parts.solid().fitted(SIDE)
        return self._solids[index]

    def pool(self, index: int) -> Float32[np.ndarray, "POOL 3"]:
        """Points drawn from a shape's surface, once."""
        if index not in self._pools:
            generator = np.random.default_rng(np.random.SeedSequence([self.seed, index, 1]))
            self._pools[index] = self.solid(index).surface(POOL, generator).astype(np.float32)
        return self._pools[index]

    def normals(self, index: int) -> Float32[np.ndarray, "POOL 3"]:
        """The normals at these points, that point out of the shape."""
        if index not in self._normals:
            solid, points = self.solid(index), self.pool(index).astype(np.float64)
            slopes = [solid.distance(points + step) - solid.distance(points - step) for step in _STEP * np.eye(3)]
            normals = np.stack(slopes, 1)
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            self._normals[index] = normals.astype(np.float32)
        return self._normals[index]

    def sample(self, index: int, count: int, near: float, generator: np.random.Generator) -> tuple[Points, Distances]:
        """Draw points with their distances (see `ShapeSource`)."""
        return self.sample_from(index, draw_procedural(Sizes.of(count, near), generator))

    def sample_from(self, index: int, drawn: ProceduralDraw) -> tuple[Points, Distances]:
        """Points with their distances, from what has been drawn."""
        around = self.pool(index)[drawn.rows] + np.resize(SPREADS, len(drawn.rows))[:, None] * drawn.offsets
        points = np.concatenate([np.clip(around, -1, 1), drawn.uniform])
        return points, self.solid(index).distance(points)

    def distance(self, index: int, points: Points) -> Distances:
        """Distances at given points."""
        return self.solid(index).distance(points)

    def surface(self, index: int, count: int, generator: np.random.Generator) -> tuple[Points, Points]:
        """Points of the surface, with normals (see `ShapeSource`)."""
        return self.surface_at(index, generator.integers(POOL, size=count))

    def surface_at(self, index: int, rows: Int[np.ndarray, "P"]) -> tuple[Points, Points]:
        """Points of the pool, with normals; these are found when there is a point."""
        normals = self.normals(index) if len(rows) else self.pool(index)
        return self.pool(index)[rows], normals[rows]


def open_shapes(signals: ShapesSection) -> ShapeSource:
    """The source of shapes that a configuration names."""
    if signals.path is None:
        return ProceduralShapes(signals.shapes, signals.families, signals.shapes_seed)
    prepared = PreparedShapes(Path(signals.path))
    if not signals.procedural:
        return prepared
    return BothShapes(prepared, ProceduralShapes(signals.procedural, signals.families, signals.shapes_seed))


class BothShapes:
    """Prepared shapes, then procedural ones."""

    def __init__(self, prepared: PreparedShapes, procedural: ProceduralShapes) -> None:
        self.prepared, self.procedural = prepared, procedural
        self.names: Sequence[str] = [*prepared.names, *(f"procedural/{name}" for name in procedural.names)]

    def sample(self, index: int, count: int, near: float, generator: np.random.Generator) -> tuple[Points, Distances]:
        """Draw points with their distances (see `ShapeSource`)."""
        source, place = self.of(index)
        return source.sample(place, count, near, generator)

    def distance(self, index: int, points: Points) -> Distances:
        """Distances at given points."""
        source, place = self.of(index)
        return source.distance(place, points)

    def surface(self, index: int, count: int, generator: np.random.Generator) -> tuple[Points, Points]:
        """Points of the surface, with normals (see `ShapeSource`)."""
        source, place = self.of(index)
        return source.surface(place, count, generator)

    def of(self, index: int) -> tuple[PreparedShapes | ProceduralShapes, int]:
        """The source of a shape, and its index there."""
        first = len(self.prepared.names)
        return (self.prepared, index) if index < first else (self.procedural, index - first)


class _Parts:
    """Boxes and rods, as they are added; y is upwards."""

    def __init__(self) -> None:
        self._boxes: list[Sequence[Sequence[float]]] = []
        self._rods: list[Sequence[Sequence[float]]] = []
        self._radii: list[float] = []
        self._rounded: list[bool] = []

    def box(self, centre: Sequence[float], half: Sequence[float]) -> None:
        self._boxes.append([centre, half])

    def rod(self, end: Sequence[float], other: Sequence[float], radius: float, rounded: bool = False) -> None:
        self._rods.append([end, other])
        self._radii.append(radius)
        self._rounded.append(rounded)

    def solid(self) -> Solid:
        boxes, rods = (np.array(parts, dtype=float).reshape(-1, 2, 3) for parts in (self._boxes, self._rods))
        return Solid(boxes, rods, np.array(self._radii), np.array(self._rounded, dtype=bool))


_Draw = Callable[..., float]
"""A uniform number between two bounds, 0 and 1 by default."""


def _chair(parts: _Parts, draw: _Draw) -> None:
    width, depth, height = draw(0.35, 0.55), draw(0.35, 0.5), draw(0.4, 0.6)
    thick = draw(0.03, 0.07)
    parts.box([0.0, height, 0.0], [width, thick, depth])
    _stand(parts, draw, width, depth, height)
    top, lean = height + draw(0.7, 1.1), draw(0.02, 0.05)
    if draw() < 0.5:
        parts.box([0.0, (height + top) / 2, lean - depth], [width, (top - height) / 2, lean])
    else:
        slats, rounded = int(draw(3, 7)), draw() < 0.5
        for place in np.linspace(lean - width, width - lean, slats):
            parts.rod([place, height, lean - depth], [place, top, lean - depth], lean, rounded)
        parts.box([0.0, top, lean - depth], [width, draw(0.04, 0.12), lean])
    if draw() < 0.4:
        arm, rest = height + draw(0.25, 0.4), draw(0.03, 0.05)
        for side in (rest - width, width - rest):
            parts.box([side, arm, 0.0], [rest, rest, depth])
            parts.rod([side, height, 0.8 * depth], [side, arm, 0.8 * depth], 0.8 * rest)


def _table(parts: _Parts, draw: _Draw) -> None:
    width, height, thick = draw(0.6, 1.0), draw(0.6, 1.0), draw(0.03, 0.08)
    depth = width * draw(0.5, 1.0)
    if draw() < 0.4:
        depth = width
        parts.rod([0.0, height - thick, 0.0], [0.0, height + thick, 0.0], width)
        width = depth = 0.7 * width
    else:
        parts.box([0.0, height, 0.0], [width, thick, depth])
    _stand(parts, draw, width, depth, height)
    if draw() < 0.3:
        parts.box([0.0, draw(0.2, 0.4) * height, 0.0], [0.85 * width, 0.6 * thick, 0.85 * depth])


def _lamp(parts: _Parts, draw: _Draw) -> None:
    height, pole, base = draw(1.0, 1.8), draw(0.025, 0.05), draw(0.2, 0.4)
    parts.rod([0.0, 0.0, 0.0], [0.0, draw(0.04, 0.1), 0.0], base)
    shade, drop = draw(0.25, 0.45), draw(0.2, 0.5)
    if draw() < 0.6:
        parts.rod([0.0, 0.0, 0.0], [0.0, height, 0.0], pole)
        parts.rod([0.0, height - drop, 0.0], [0.0, height, 0.0], shade)
    else:
        elbow, reach = [draw(-0.5, -0.2), 0.6 * height, 0.0], draw(0.3, 0.6)
        head = [reach, draw(0.8, 1.0) * height, 0.0]
        parts.rod([0.0, 0.0, 0.0], elbow, pole, True)
        parts.rod(elbow, head, pole, True)
        parts.rod(head, [reach + 0.5 * shade, head[1] - 0.5 * drop, 0.0], 0.5 * shade, True)


def _stand(parts: _Parts, draw: _Draw, width: float, depth: float, height: float) -> None:
    """Four legs to the corners of a plate at some height, straight or splayed, or one column on a foot."""
    radius = draw(0.03, 0.06)
    if draw() < 0.3:
        parts.rod([0.0, 0.0, 0.0], [0.0, height, 0.0], 1.3 * radius)
        parts.rod([0.0, 0.0, 0.0], [0.0, draw(0.03, 0.08), 0.0], draw(0.6, 0.9) * min(width, depth))
        return
    splay, rounded = draw(0.0, 0.15), draw() < 0.5
    for x in (radius - width, width - radius):
        for z in (radius - depth, depth - radius):
            parts.rod([x * (1 + splay), 0.0, z * (1 + splay)], [x, height, z], radius, rounded)


FAMILIES: dict[str, Callable[[_Parts, _Draw], None]] = {"chair": _chair, "table": _table, "lamp": _lamp}
