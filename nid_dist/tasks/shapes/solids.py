"""Solids made of boxes and rods: their signed distances, and points on their surfaces."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_INSIDE = 1e-9  # deeper than this, a point of one part's surface lies within another part


@dataclass(frozen=True)
class Solid:
    """A union of boxes along the axes and of rods in any direction."""

    boxes: Float[np.ndarray, "b 2 3"]  # the centre and the half sides of each
    rods: Float[np.ndarray, "r 2 3"]  # the two ends of each, which differ
    radii: Float[np.ndarray, "r"]  # of the rods
    # which rods end in half spheres about their ends (capsules); the others end flat (cylinders)
    rounded: Bool[np.ndarray, "r"]

    def distance(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P"]:
        """Signed distance to the surface, negative inside: the least of the parts' own exact distances.

        Sign and zero are exact, and so is the distance outside. Inside, where parts overlap, the surface may be farther
        away than that of any one part: there it is a bound.
        """
        # Axes first, points last: numpy is slow where it sums over a last axis of three.
        here, boxes = points.T[:, None], self.boxes.transpose(1, 2, 0)[..., None]
        to_boxes = _to_corner(np.abs(here - boxes[0]) - boxes[1]).min(0, initial=np.inf)
        middle, axis, half = (part.T[..., None] for part in self._frames())
        radius, rounded = self.radii[:, None], self.rounded[:, None]
        relative = here - middle
        along = (relative * axis).sum(0)
        radial = np.sqrt(np.square(relative - along * axis).sum(0))
        beyond = np.abs(along) - half
        capped = np.hypot(radial, np.maximum(beyond, 0)) - radius
        flat = _to_corner(np.stack([radial - radius, beyond]))
        to_rods = np.where(rounded, capped, flat).min(0, initial=np.inf)
        return np.minimum(to_boxes, to_rods)

    def surface(self, count: int, generator: np.random.Generator) -> Float[np.ndarray, "P 3"]:
        """Points drawn uniformly from the surface."""
        kept = np.empty((0, 3))
        while len(kept) < count:
            drawn = self._on_parts(count - len(kept), generator)
            kept = np.concatenate([kept, drawn[self.distance(drawn) > -_INSIDE]])
        return kept

    def fitted(self, side: float) -> "Solid":
        """The same solid, moved and scaled: its bounding box about the origin, the longest half side as given."""
        _, axis, _ = self._frames()
        across = self.radii[:, None] * np.where(self.rounded[:, None], 1.0, np.sqrt(np.clip(1 - axis**2, 0, None)))
        centres, halves = self.boxes[:, 0], self.boxes[:, 1]
        low = np.concatenate([centres - halves, self.rods.min(1) - across]).min(0)
        high = np.concatenate([centres + halves, self.rods.max(1) + across]).max(0)
        middle, scale = (low + high) / 2, side / (high - low).max() * 2
        boxes = np.stack([centres - middle, halves], 1) * scale
        return Solid(boxes, (self.rods - middle) * scale, self.radii * scale, self.rounded)

    def _frames(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Middle, direction and half length of each rod."""
        span = self.rods[:, 1] - self.rods[:, 0]
        length = np.linalg.norm(span, axis=1)
        return self.rods.mean(1), span / length[:, None], length / 2

    def _on_parts(self, count: int, generator: np.random.Generator) -> Float[np.ndarray, "P 3"]:
        """Points on the parts' surfaces, those within other parts included."""
        a, b, c = self.boxes[:, 1].T
        half = self._frames()[2]
        ends = np.where(self.rounded, 4, 2) * np.pi * self.radii**2
        areas = np.concatenate([8 * (a * b + b * c + c * a), 4 * np.pi * self.radii * half + ends])
        part = generator.choice(len(areas), count, p=areas / areas.sum())
        on_box = part < len(self.boxes)
        points = np.empty((count, 3))
        points[on_box] = self._on_boxes(part[on_box], generator)
        points[~on_box] = self._on_rods(part[~on_box] - len(self.boxes), generator)
        return points

    def _on_boxes(self, which: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        centre, half = self.boxes[which, 0], self.boxes[which, 1]
        faces = (half.prod(1, keepdims=True) / half).cumsum(1)
        axis = (generator.uniform(size=(len(which), 1)) * faces[:, -1:] > faces).sum(1)
        place = generator.uniform(-1, 1, (len(which), 3))
        place[np.arange(len(which)), axis] = generator.choice([-1.0, 1.0], len(which))
        return centre + half * place

    def _on_rods(self, which: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        middle, axis, half = (values[which] for values in self._frames())
        radius, rounded = self.radii[which][:, None], self.rounded[which][:, None]
        half, share = half[:, None], generator.uniform(size=(len(which), 1))
        unit = _unit(generator.normal(size=(len(which), 3)))
        upwards = (unit * axis).sum(1, keepdims=True)
        across = _unit(unit - upwards * axis)
        on_side = share * (2 * half + np.where(rounded, 2, 1) * radius) < 2 * half
        side = across * radius + axis * half * generator.uniform(-1, 1, half.shape)
        disc = across * radius * np.sqrt(generator.uniform(size=half.shape))
        end = np.where(rounded, unit * radius, disc) + axis * half * np.sign(upwards)
        return middle + np.where(on_side, side, end)


def _to_corner(beyond: Float[np.ndarray, "axes *shape"]) -> Float[np.ndarray, "*shape"]:
    """Signed distance to a box's surface from how far a point lies beyond it along each axis."""
    return np.sqrt(np.square(np.maximum(beyond, 0)).sum(0)) + np.minimum(beyond.max(0), 0)


def _unit(vectors: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
