"""Shapes mirrored, turned about the up axis and stretched, with what becomes of their signed distances."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nid_dist.tasks.shapes.mesh import SIDE

FAR = 1.0
"""A distance from any surface that is beyond all truncations."""

BOX = 2000
"""Points of a surface that tell how large a changed shape is."""

Points = Float[np.ndarray, "P 3"]
Distances = Float[np.ndarray, "P"]


@dataclass(frozen=True)
class Change:
    """A linear map of the cube's shapes, followed by the shift that puts the bounding box about the middle again."""

    matrix: Float[np.ndarray, "3 3"]  # of points
    shift: Float[np.ndarray, "3"]  # added to them

    def points(self, points: Points) -> Points:
        """Where points go."""
        return points @ self.matrix.T + self.shift

    def back(self, points: Points) -> Points:
        """Where points came from."""
        return np.linalg.solve(self.matrix, (points - self.shift).T).T

    def normals(self, normals: Points) -> tuple[Points, Float[np.ndarray, "P"]]:
        """Normals of planes, and how many times farther apart parallel planes come to lie."""
        turned = np.linalg.solve(self.matrix.T, normals.T).T
        length = np.linalg.norm(turned, axis=1)
        return turned / np.maximum(length, 1e-9)[:, None], 1 / np.maximum(length, 1e-9)


def draw_matrix(stretch: float, turn: float, generator: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Draw a linear map: mirrored left to right or not, turned about the second axis, each axis stretched.

    `stretch` is the largest change of an axis's length, as a share, `turn` the largest turn, in degrees.
    """
    scale = np.exp(generator.uniform(-1, 1, 3) * math.log1p(stretch))
    scale[0] *= generator.choice([-1.0, 1.0])
    angle = math.radians(turn) * generator.uniform(-1, 1)
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]) * scale


def fitted_change(surface: Points, matrix: Float[np.ndarray, "3 3"]) -> Change:
    """The change by a multiple of a matrix for which the longest side of `surface`, points of the shape, stays."""
    moved = surface @ matrix.T
    low, high = moved.min(0), moved.max(0)
    size = 2 * SIDE / float((high - low).max())
    return Change(size * matrix, -size * (low + high) / 2)


def change_samples(
    change: Change,
    points: Points,
    distances: Distances,
    gradients: Points,
    near: int,
    fresh: Float[np.ndarray, "U 3"],
    picks: Int[np.ndarray, "U"],
) -> tuple[Points, Distances]:
    """As many samples of the changed shape: points, and their distances.

    A distance becomes that from the changed plane through the closest point: exact for mirrors and turns, and under
    stretching exact next to flat surfaces, and a bound elsewhere. The first `near` points are near the surface, the
    others uniform in the cube: `fresh`, drawn from it, take the place of those where the changed cube leaves some of it
    uncovered, which no surface does; those that left the cube are replaced by others that did not, as `picks`, numbers
    at random, say.
    """
    moved = change.points(points)
    moved_distances = distances * change.normals(gradients)[1]
    uncovered = np.abs(change.back(fresh)).max(1) > 1
    gone = np.abs(moved[near:]).max(1) > 1
    usable = near + np.flatnonzero(~gone)
    place = np.arange(near, len(points))
    if len(usable):
        place = np.where(gone, usable[picks % len(usable)], place)
    uniform = np.where(uncovered[:, None], fresh, moved[place])
    uniform_distances = np.where(uncovered, FAR, moved_distances[place])
    return np.concatenate([moved[:near], uniform]), np.concatenate([moved_distances[:near], uniform_distances])
