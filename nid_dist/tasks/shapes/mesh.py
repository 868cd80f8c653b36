"""Triangle meshes: faces, normals, points drawn from the surface, and one box for all shapes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

SIDE = 0.9
"""Half the longest side of a shape in the cube [-1, 1]^3, so that there is room outside it."""


@dataclass(frozen=True)
class Mesh:
    """Triangles in space."""

    vertices: Float[np.ndarray, "V 3"]  # their corners
    faces: Int[np.ndarray, "F 3"]  # three corners of each, counter-clockwise as seen from outside

    @cached_property
    def corners(self) -> Float[np.ndarray, "F 3 3"]:
        """The three corners of each face."""
        return self.vertices[self.faces]

    @cached_property
    def areas(self) -> Float[np.ndarray, "F"]:
        """Of the faces."""
        return np.linalg.norm(self._cross, axis=1) / 2

    @cached_property
    def normals(self) -> Float[np.ndarray, "F 3"]:
        """Of the faces, of length 1; zero for a face without area."""
        doubled = 2 * self.areas[:, None]
        return np.divide(self._cross, doubled, out=np.zeros_like(self._cross), where=doubled > 0)

    @property
    def is_closed(self) -> bool:
        """Whether the faces at each edge go along it as often one way as the other; corners in one place are one."""
        _, corner = np.unique(self.vertices, axis=0, return_inverse=True)
        faces = corner.reshape(-1)[self.faces]
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        upwards = edges[:, 0] < edges[:, 1]
        _, edge = np.unique(np.sort(edges, 1), axis=0, return_inverse=True)
        balance = np.bincount(edge.reshape(-1), np.where(upwards, 1.0, -1.0) * (edges[:, 0] != edges[:, 1]))
        return not balance.any()

    @cached_property
    def _cross(self) -> Float[np.ndarray, "F 3"]:
        first, second, third = self.corners.transpose(1, 0, 2)
        return np.cross(second - first, third - first)

    def sample(
        self, count: int, generator: np.random.Generator
    ) -> tuple[Float[np.ndarray, "P 3"], Int[np.ndarray, "P"]]:
        """Points drawn uniformly from the surface, and the face that each lies on."""
        # One point in each of P equal parts of the area: less uneven than independent points.
        places = (np.arange(count) + generator.uniform(size=count)) / max(count, 1)
        total = np.cumsum(self.areas)
        face = np.minimum(np.searchsorted(total, places * total[-1], side="right"), len(total) - 1)
        face = generator.permutation(face)
        return self.points_on(face, generator), face

    def points_on(self, face: Int[np.ndarray, "P"], generator: np.random.Generator) -> Float[np.ndarray, "P 3"]:
        """A random point on each of some faces."""
        share = generator.uniform(size=(len(face), 2))
        share = np.where(share.sum(1, keepdims=True) > 1, 1 - share, share)
        first, second, third = self.corners[face].transpose(1, 0, 2)
        return first + share[:, :1] * (second - first) + share[:, 1:] * (third - first)

    def part(self, kept: np.ndarray) -> "Mesh":
        """Some of the faces, by a mask or by their numbers."""
        return Mesh(self.vertices, self.faces[kept])

    @staticmethod
    def joined(meshes: "list[Mesh]") -> "Mesh":
        """The faces of all of them."""
        first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
        faces = [mesh.faces + start for mesh, start in zip(meshes, first, strict=True)]
        return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


@dataclass(frozen=True)
class Placement:
    """Where a shape's cube [-1, 1]^3 lies in the world: world = centre + scale * cube."""

    centre: tuple[float, float, float]  # of the cube, in world units
    scale: float  # half the cube's side, in world units

    @staticmethod
    def around(points: Float[np.ndarray, "P 3"]) -> "Placement":
        """The placement that puts the bounding box of the points, two of which differ, about the cube's middle."""
        low, high = points.min(0), points.max(0)
        x, y, z = ((low + high) / 2).tolist()
        return Placement((x, y, z), float((high - low).max()) / (2 * SIDE))

    def to_cube(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """From world units into the cube."""
        return (points - np.array(self.centre)) / self.scale

    def to_world(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """From the cube into world units."""
        return np.array(self.centre) + self.scale * points
