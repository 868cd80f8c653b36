"""Signed distances to a mesh that need not be closed: signs by winding numbers, lengths separately.

The winding number w of a point counts how often the mesh goes around it: 1 inside a closed mesh, 0 outside, and
something between where the mesh has gaps (Jacobson et al. 2013; evaluated fast, Barill et al. 2018). The shape is where
w > 1/2, and its surface are those faces on whose two sides that differs: others lie inside it, or bound nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from nid_dist.tasks.shapes.mesh import Mesh

_STEP = 0.003  # from a face, at which its two sides are looked at
_TESTED = 10_000  # points on the surface for that, besides one on each face
# In a ball that meets no face w is harmonic. Where it is this close to a whole number at the centre, it stays on that
# number's side of 1/2 within this share of the radius, by Harnack's inequality: 0.02 * 1.7 / 0.3^2 < 1/2.
_SURE, _SHARE = 0.02, 0.7
_FAMILY = 8  # points near the surface whose sign is looked up together

Points = Float[np.ndarray, "P 3"]


@dataclass(frozen=True)
class Sides:
    """What lies on the two sides of points on a mesh."""

    points: Points  # on the surface, drawn uniformly
    normals: Points  # of the shape's surface, pointing out of it; of the face where it is none
    surface: Bool[np.ndarray, "P"]  # which of them are on the surface of w > 1/2
    inner: float  # share of them with the shape on both sides
    open: float  # share of them with it on neither side
    flipped: float  # share of them next to which w < -1/2: there the mesh is inside out


class MeshDistance:
    """The signed distance to the surface of the inside of a mesh in the cube with oriented faces."""

    def __init__(self, mesh: Mesh, generator: np.random.Generator) -> None:
        self._whole = mesh
        self.sides, kept = _look(mesh, generator)
        self.surface = mesh.part(kept) if kept.any() else mesh
        """The faces that bound the shape."""

    def winding(self, points: Points) -> Float[np.ndarray, "P"]:
        """As `winding` of the mesh."""
        return winding(self._whole, points)

    def distance(self, points: Points) -> Float[np.ndarray, "P"]:
        """Signed distances of any points, negative inside."""
        return self.nearest(points, self.winding(points) > 0.5)[0]

    def nearest(self, points: Points, inside: Bool[np.ndarray, "P"]) -> tuple[Float[np.ndarray, "P"], Points]:
        """Signed distances of any points, negative inside, and their gradients: unit vectors along which they grow."""
        length, _, foot = closest(self.surface, points)
        sign = np.where(inside, -1.0, 1.0)
        towards = sign[:, None] * (points - foot)
        return sign * length, towards / np.maximum(length, 1e-12)[:, None]

    def uniform(self, count: int, generator: np.random.Generator) -> tuple[Points, Bool[np.ndarray, "P"]]:
        """Points drawn uniformly from the cube, and which of them are inside."""
        points = generator.uniform(-1, 1, (count, 3))
        return points, self.winding(points) > 0.5

    def near(
        self, count: int, spreads: Sequence[float], generator: np.random.Generator
    ) -> tuple[Points, Bool[np.ndarray, "P"]]:
        """Points near the surface, in random order, and which of them are inside.

        Winding numbers are what takes longest. So the points come in families: one at a normal distance from a point of
        the surface, of the standard deviations `spreads` in turn, the others in the ball about it that meets no face,
        where the sign is the same.
        """
        families = -(-count // _FAMILY)
        first = self.surface.sample(families, generator)[0]
        first = first + np.resize(spreads, families)[:, None] * generator.normal(size=first.shape)
        # No ball may meet the faces within the shape either.
        radius = _SHARE * closest(self._whole, first)[0]
        winding = self.winding(first)
        offset = generator.normal(size=(families, _FAMILY - 1, 3))
        length = radius[:, None, None] * generator.uniform(size=(families, _FAMILY - 1, 1)) ** (1 / 3)
        others = first[:, None] + length * offset / np.linalg.norm(offset, axis=2, keepdims=True)
        inside = np.repeat(winding[:, None] > 0.5, _FAMILY, 1)
        unsure = np.abs(winding - np.round(winding)) >= _SURE
        inside[unsure, 1:] = (self.winding(others[unsure].reshape(-1, 3)) > 0.5).reshape(-1, _FAMILY - 1)
        points = np.clip(np.concatenate([first[:, None], others], 1).reshape(-1, 3), -1, 1)
        chosen = generator.permutation(len(points))[:count]
        return points[chosen], inside.reshape(-1)[chosen]


def _look(mesh: Mesh, generator: np.random.Generator) -> tuple[Sides, Bool[np.ndarray, "F"]]:
    """The sides of points on the surface, and which faces bound the shape somewhere."""
    points, face = mesh.sample(_TESTED, generator)
    every = np.arange(len(mesh.faces))
    tested = np.concatenate([points, mesh.points_on(every, generator)])
    face = np.concatenate([face, every])
    step = _STEP * mesh.normals[face]
    above, below = np.split(winding(mesh, np.concatenate([tested + step, tested - step])), 2)
    out, within = above <= 0.5, below > 0.5
    bounds = out == within
    kept = np.zeros(len(mesh.faces), dtype=bool)
    kept[face[bounds]] = True
    uniform = slice(0, len(points))
    # Below a face that looks inwards lies the outside.
    normals = np.where((out | ~bounds)[:, None], 1.0, -1.0) * mesh.normals[face]
    return (
        Sides(
            points,
            normals[uniform],
            bounds[uniform],
            float((~out & within)[uniform].mean()),
            float((out & ~within)[uniform].mean()),
            float((np.minimum(above, below)[uniform] < -0.5).mean()),
        ),
        kept,
    )


def winding(mesh: Mesh, points: Points) -> Float[np.ndarray, "P"]:
    """How often a mesh goes around points: 1 inside of a closed one, 0 outside."""
    import igl

    winding: np.ndarray = igl.fast_winding_number(mesh.vertices, mesh.faces, np.ascontiguousarray(points))
    return winding


def closest(mesh: Mesh, points: Points) -> tuple[Float[np.ndarray, "P"], np.ndarray, Points]:
    """Exact unsigned distances to a mesh's faces, which face is the closest, and the closest point on it."""
    import igl

    squared, face, foot = igl.point_mesh_squared_distance(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(mesh.vertices, np.float64),
        np.ascontiguousarray(mesh.faces, np.int64),
    )
    return np.sqrt(squared), face, foot
