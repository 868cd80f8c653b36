"""Volumes of ellipsoids, whose slices are phantoms: neighbours in a volume look alike, as they do in a body."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from nid_dist.tasks.ct.phantoms import Phantom

_INNER = 14  # ellipsoids in the body
_EXTENT = 0.88  # of the slices' heights: below and above it the body is small
_HEIGHTS, _SIDE = 24, 40  # at which values are looked at, to keep them in [0, 1]


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """{x : (x - centre)^T shape (x - centre) <= 1}, of constant density; axes point right, up and along the body."""

    density: float
    centre: Float64[np.ndarray, "3"]
    shape: Float64[np.ndarray, "3 3"]  # positive definite

    def section(self, height: float) -> Float64[np.ndarray, "6"] | None:
        """The ellipse that a slice at a height cuts out, as `Phantom.ellipses` has it; None: it cuts nothing."""
        plane, along = self.shape[:2, :2], self.shape[:2, 2] * (height - self.centre[2])
        moved = -np.linalg.solve(plane, along)
        left = 1 - self.shape[2, 2] * (height - self.centre[2]) ** 2 - along @ moved
        if left <= 0:
            return None
        values, vectors = np.linalg.eigh(plane / left)
        axis = vectors[:, 0]
        half = 1 / np.sqrt(values)
        return np.array([self.density, *half, *(self.centre[:2] + moved), np.arctan2(axis[1], axis[0])])


def random_volume(generator: np.random.Generator) -> list[Ellipsoid]:
    """A body with a shell, and ellipsoids of any size, place and direction in it, of values in [0, 1]."""
    draw = generator.uniform
    width, depth, length = draw(0.68, 0.76), draw(0.84, 0.9), draw(0.95, 1.0)
    thickness, shell, inside = draw(0.04, 0.07), draw(0.7, 0.9), draw(0.2, 0.35)
    upright = np.zeros(3)
    outer = Ellipsoid(shell, upright, _axes(np.array([width, depth, length])))
    body = Ellipsoid(inside - shell, upright, _axes(np.array([width, depth, length]) - thickness))
    inner = []
    for _ in range(_INNER):
        turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
        shape = turn @ _axes(draw(0.08, 0.35, 3)) @ turn.T
        centre = draw(-1, 1, 3) * [0.55 * width, 0.6 * depth, 0.8 * length]
        inner.append(Ellipsoid(draw(-0.15, 0.35), centre, shape))
    # As of a single phantom: what is inside is weakened until nothing is negative or brighter than the shell.
    values = [slice_of(inner, height).image(_SIDE, 1) for height in np.linspace(-_EXTENT, _EXTENT, _HEIGHTS)]
    lowest, highest = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    share = min(1.0, inside / max(-lowest, 1e-9), (shell - inside) / max(highest, 1e-9))
    return [outer, body, *(Ellipsoid(share * each.density, each.centre, each.shape) for each in inner)]


def slice_of(volume: list[Ellipsoid], height: float) -> Phantom:
    """What a volume is at a height, which is 0 in its middle."""
    found = [section for section in (each.section(height) for each in volume) if section is not None]
    return Phantom(np.stack(found) if found else np.zeros((0, 6)))


def neighbouring_slice(index: int, slices: int, seed: int) -> Phantom:
    """A slice of a volume: the first `slices` are one volume, from its bottom to its top, and so on."""
    volume = _volume(index // slices, slices, seed)
    place = (index % slices + 0.5) / slices
    return slice_of(volume, _EXTENT * (2 * place - 1))


@lru_cache(maxsize=16)
def _volume(number: int, slices: int, seed: int) -> list[Ellipsoid]:
    return random_volume(np.random.default_rng(np.random.SeedSequence([seed, number, slices])))


def _axes(half: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    return np.diag(1 / half**2)
