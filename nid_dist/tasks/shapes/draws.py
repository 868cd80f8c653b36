"""The random numbers of a shape's points in a step: drawn on the CPU, whatever makes points of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nid_dist.tasks.shapes.augmentation import draw_matrix
from nid_dist.tasks.shapes.config import ShapesSection

POOL = 2**12
"""Points of a procedural shape's surface, made once, near which those of a step are."""

_PLACES = 2**31  # at one of which a part of a prepared shape begins


@dataclass(frozen=True)
class Sizes:
    """How many points of each kind."""

    near: int  # near the surface
    uniform: int  # in the whole cube
    cloud: int  # of the surface, that a gate sees; 0: it sees none

    @staticmethod
    def of(count: int, near: float, cloud: int = 0) -> "Sizes":
        """Of `count` points with distances, a share of them near the surface."""
        close = round(near * count)
        return Sizes(close, count - close, cloud)


@dataclass(frozen=True)
class PreparedDraw:
    """Of a prepared shape: where its samples are taken from, which lie in random order, and how it is changed."""

    near: int
    uniform: int
    cloud: int
    oriented: bool  # whether the cloud has its normals
    box: int = 0  # where the points begin that tell how large the changed shape is
    matrix: Float[np.ndarray, "3 3"] | None = None  # see `draw_matrix`; None: it is not changed
    fresh: Float[np.ndarray, "U 3"] | None = None  # see `change_samples`
    picks: Int[np.ndarray, "U"] | None = None


@dataclass(frozen=True)
class ProceduralDraw:
    """Of a procedural shape: points of its pool, how far from them points are, and points anywhere."""

    rows: Int[np.ndarray, "near"]
    offsets: Float[np.ndarray, "near 3"]  # in units of the spreads
    uniform: Float[np.ndarray, "U 3"]
    cloud: Int[np.ndarray, "cloud"]
    oriented: bool


def draw_prepared(sizes: Sizes, generator: np.random.Generator, change: ShapesSection | None = None) -> PreparedDraw:
    """Draw for a prepared shape; `change` says how it may be changed."""
    box, matrix, fresh, picks = 0, None, None, None
    if change is not None:
        box, matrix = _place(generator), draw_matrix(change.stretch, change.turn, generator)
    near, uniform = _place(generator), _place(generator)
    if change is not None:
        fresh, picks = generator.uniform(-1, 1, (sizes.uniform, 3)), generator.integers(_PLACES, size=sizes.uniform)
    cloud, oriented = (_place(generator), bool(generator.integers(2))) if sizes.cloud else (0, False)
    return PreparedDraw(near, uniform, cloud, oriented, box, matrix, fresh, picks)


def draw_procedural(sizes: Sizes, generator: np.random.Generator) -> ProceduralDraw:
    """Draw for a procedural shape."""
    rows, offsets = generator.integers(POOL, size=sizes.near), generator.normal(size=(sizes.near, 3))
    uniform = generator.uniform(-1, 1, (sizes.uniform, 3))
    cloud = generator.integers(POOL, size=sizes.cloud)
    return ProceduralDraw(rows, offsets, uniform, cloud, bool(sizes.cloud and generator.integers(2)))


def _place(generator: np.random.Generator) -> int:
    return int(generator.integers(_PLACES))
