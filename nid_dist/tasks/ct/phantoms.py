"""Phantoms of ellipses, with sinograms in closed form: the Shepp-Logan head, and random heads like it.

A sinogram here is the exact Radon transform of the ellipses (Kak and Slaney 1988, eq. 3.4 to 3.6), never that of
pixels, so that training, measuring and reconstructing share no discretisation.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from nid_dist.measurements.geometry import Geometry

# Density, half axes, centre (right, up) and angle in degrees: Shepp and Logan 1974, with the contrasts of Toft 1996.
_SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)
STANDARD = "shepp-logan"
FINENESS = 4
"""Points along each axis of a pixel, and lines in a bin, over whose width images and sinograms are means."""
_INSIDE = 2  # the first two ellipses are the skull's outer and inner border
_LESIONS = 3  # at most, besides


@dataclass(frozen=True, eq=False)
class Phantom:
    """A sum of ellipses of constant density, within the unit disc."""

    # density, half axes a and b, centre (right, up), and angle of a's axis in radians, of each
    ellipses: Float64[np.ndarray, "E 6"]

    def image(self, side: int, fineness: int = FINENESS) -> Float64[np.ndarray, "S S"]:
        """Means of f over the pixels of a square on [-1, 1]^2, of `fineness` points along each axis of a pixel."""
        axis = (np.arange(side * fineness) + 0.5) * 2 / (side * fineness) - 1
        fine = np.zeros((len(axis), len(axis)))
        for ellipse in self.ellipses:
            _, a, b, right, up, angle = ellipse
            # Only the rows and columns that the ellipse reaches.
            height = math.hypot(a * math.sin(angle), b * math.cos(angle))
            width = math.hypot(a * math.cos(angle), b * math.sin(angle))
            rows = slice(*np.searchsorted(axis, [-up - height, -up + height]))
            columns = slice(*np.searchsorted(axis, [right - width, right + width]))
            fine[rows, columns] += _covered(ellipse, axis[None, columns], -axis[rows, None])
        return fine.reshape(side, fineness, side, fineness).mean((1, 3))

    def integrals(self, geometry: Geometry) -> Float64[np.ndarray, "M"]:
        """The exact line integrals: one per line, in units of density times radius."""
        angles, offsets = (line.numpy() for line in geometry.lines)
        total = np.zeros(len(angles))
        for density, a, b, right, up, angle in self.ellipses:
            square = (a * np.cos(angles - angle)) ** 2 + (b * np.sin(angles - angle)) ** 2
            distance = offsets - right * np.cos(angles) - up * np.sin(angles)
            total += density * 2 * a * b * np.sqrt(np.clip(square - distance**2, 0, None)) / square
        return total

    def sinogram(self, geometry: Geometry, fineness: int = FINENESS) -> Float64[np.ndarray, "M"]:
        """Means of the line integrals over the width of the bins, as detectors measure.

        `fineness` is lines in a bin of a fan; of parallel beams the means are exact.
        """
        if geometry.source is not None:
            return self.integrals(geometry.finer(fineness)).reshape(-1, fineness).mean(1)
        edges = np.append(geometry.positions - geometry.pitch / 2, geometry.positions[-1] + geometry.pitch / 2)
        angles, total = geometry.angles[:, None], np.zeros((geometry.views, geometry.bins))
        for density, a, b, right, up, angle in self.ellipses:
            square = (a * np.cos(angles - angle)) ** 2 + (b * np.sin(angles - angle)) ** 2
            moved = geometry.shifts[:, None] - right * np.cos(angles) - up * np.sin(angles)
            distance = (edges + moved) / np.sqrt(square)
            inside = np.clip(distance, -1, 1)
            # Of the mass a * b * pi, what lies on this side of an edge: a segment of the unit disc.
            mass = density * a * b * (inside * np.sqrt(1 - inside**2) + np.arcsin(inside))
            total += np.diff(mass, axis=1)
        return total.reshape(-1) / geometry.pitch


def _covered(
    ellipse: Float64[np.ndarray, "6"], x: Float[np.ndarray, "*#points"], y: Float[np.ndarray, "*#points"]
) -> Float64[np.ndarray, "*points"]:
    """The density where the ellipse covers a point, 0 elsewhere."""
    density, a, b, right, up, angle = ellipse
    along = (x - right) * math.cos(angle) + (y - up) * math.sin(angle)
    across = (y - up) * math.cos(angle) - (x - right) * math.sin(angle)
    covered: np.ndarray = density * ((along / a) ** 2 + (across / b) ** 2 <= 1)
    return covered


def shepp_logan() -> Phantom:
    """The standard head phantom of Shepp and Logan, with Toft's contrasts, in [0, 1]."""
    ellipses = np.array(_SHEPP_LOGAN)
    ellipses[:, 5] = np.deg2rad(ellipses[:, 5])
    return Phantom(ellipses)


def random_phantom(generator: np.random.Generator) -> Phantom:
    """A head like Shepp and Logan's: every ellipse moved, stretched, turned and made lighter or darker, and lesions.

    Values are in [0, 1], but for slivers where ellipses meet.
    """
    draw = generator.uniform
    ellipses = shepp_logan().ellipses
    inner = ellipses[_INSIDE:]
    inner[:, 0] *= draw(0.5, 1.5, len(inner))
    inner[:, 1:3] *= draw(0.75, 1.25, (len(inner), 2))
    inner[:, 3:5] += generator.normal(0, 0.03, (len(inner), 2))
    inner[:, 5] += np.deg2rad(draw(-15, 15, len(inner)))
    lesions = np.zeros((int(generator.integers(0, _LESIONS + 1)), 6))
    for lesion in lesions:
        radius, direction = 0.42 * math.sqrt(draw()), draw(0, 2 * math.pi)
        centre = radius * math.cos(direction), 1.3 * radius * math.sin(direction)
        lesion[:] = draw(-0.15, 0.15), *draw(0.03, 0.12, 2), *centre, draw(0, math.pi)
    skull, brain = draw(0.8, 1.0), draw(0.15, 0.3)
    ellipses[:_INSIDE, 0] = skull, brain - skull
    # The skull's width varies, and so does its thickness.
    stretch = draw(0.9, 1.05, 2)
    ellipses[:, 1:3] *= stretch
    ellipses[:, 3:5] *= stretch
    ellipses[1, 1:3] *= draw(0.97, 1.01, 2)
    ellipses = np.concatenate([ellipses, lesions])
    _turn(ellipses, np.deg2rad(draw(-15, 15)))
    return Phantom(_within_range(ellipses, skull, brain))


def phantom_names(count: int, *, standard: bool = True) -> list[str]:
    """The standard phantom, unless it is not wanted, and `count` random ones, by name."""
    return [*([STANDARD] if standard else []), *(f"phantom-{index:05d}" for index in range(count))]


def phantom_index(name: str) -> int:
    """The number of a random phantom of `phantom_names`."""
    return int(name.removeprefix("phantom-"))


def named_phantom(name: str, seed: int) -> Phantom:
    """A phantom of `phantom_names`: the phantom, which depends on the seed and its name alone."""
    if name == STANDARD:
        return shepp_logan()
    return random_phantom(np.random.default_rng(np.random.SeedSequence([seed, phantom_index(name)])))


def _turn(ellipses: Float64[np.ndarray, "E 6"], angle: float) -> None:
    right, up = ellipses[:, 3].copy(), ellipses[:, 4].copy()
    ellipses[:, 3] = right * math.cos(angle) - up * math.sin(angle)
    ellipses[:, 4] = right * math.sin(angle) + up * math.cos(angle)
    ellipses[:, 5] += angle


def _within_range(ellipses: Float64[np.ndarray, "E 6"], skull: float, brain: float) -> Float64[np.ndarray, "E 6"]:
    """Weaken what is in the brain until no sum of it is negative or brighter than bone."""
    inner = Phantom(ellipses[_INSIDE:]).image(160, 1)
    ellipses[_INSIDE:, 0] *= min(1.0, brain / max(-inner.min(), 1e-9), (1 - brain) / max(inner.max(), 1e-9))
    return ellipses
