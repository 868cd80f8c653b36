"""Where a CT scanner measures: the lines of its views, in parallel or in fans.

The object lies in the unit disc. A line is the set {x : <x, n> = s} with normal n = (cos t, sin t) and offset s, in
axes that point right and up: a point of coordinates (row, column) has x = column and y = -row, as in scikit-image's
`radon`.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

Beam = Literal["parallel", "fan"]
Detector = Literal["flat", "arc"]

_OFF = 0.1  # of the disc's shadow, that may lie beside the detector where its centre is not on the axis


@dataclass(frozen=True, eq=False)
class Geometry:
    """Views of equal detectors.

    Raises:
        ValueError: without views or bins, with a source within the disc, or with what only other beams have.
    """

    angles: Float64[np.ndarray, "V"]  # of each view, in radians. Of a fan, the normal of its central line.
    bins: int  # B, of the detector
    # Of the detector, in radii of the disc; a fan's is scaled to the axis (an arc's along it)
    width: float = 2.0
    source: float | None = None  # distance of a fan's source from the axis, in radii; None: parallel beams
    offset: float = 0.0  # of the detector's centre from where the axis falls, as wide is measured; towards higher bins
    detector: Detector = "flat"  # across a fan's central line; or an arc about the source, bins at equal angles
    centre: tuple[float, float] = (0.0, 0.0)  # of rotation, (row, column) in the disc; off its middle: parallel beams

    def __post_init__(self) -> None:
        if len(self.angles) == 0 or self.bins < 1 or not self.width > 0:
            raise ValueError("a geometry needs at least one view, one bin and a detector wider than 0")
        if self.source is not None and not self.source > 1:
            raise ValueError("the source of a fan lies outside the unit disc")
        if self.source is None and self.detector != "flat":
            raise ValueError("only the detector of a fan is an arc")
        if self.source is not None and any(self.centre):
            raise ValueError("a fan turns about the middle of the disc; give its detector's offset")

    @staticmethod
    def even(views: int, bins: int, source: float | None = None) -> "Geometry":
        """Views at equal angles over half a turn (a whole one of a fan), with a detector as wide as the disc appears.

        A fan has a source, at a distance in radii.
        """
        turn = math.pi if source is None else 2 * math.pi
        return Geometry(np.arange(views) * turn / views, bins, 2 * shadow(source), source)

    @staticmethod
    def skimage(angles: Float64[np.ndarray, "V"], bins: int, side: int | None = None) -> "Geometry":
        """What scikit-image's `radon` measures of an image of `side` pixels (None: as many as bins), by its source.

        It turns the image about the pixel (side // 2, side // 2), which it puts into the bin bins // 2: of an even
        side that is half a pixel below and to the right of the image's middle, and of even bins half a bin beside the
        detector's. Its integrals are in pixels, side / 2 of which are a radius; it returns them as [bins, views].
        """
        side = bins if side is None else side
        pixel = 2 / side
        middle = (side // 2 - (side - 1) / 2) * pixel
        return Geometry(
            angles, bins, bins * pixel, None, ((bins - 1) / 2 - bins // 2) * pixel, "flat", (middle, middle)
        )

    @property
    def beam(self) -> Beam:
        """What kind of beams."""
        return "parallel" if self.source is None else "fan"

    @property
    def views(self) -> int:
        """V."""
        return len(self.angles)

    @property
    def size(self) -> int:
        """M = V * B, lines in all."""
        return self.views * self.bins

    @property
    def pitch(self) -> float:
        """Distance between neighbouring bins."""
        return self.width / self.bins

    @property
    def axis(self) -> float:
        """Where the axis of rotation falls on the detector, in bins: 0 is the middle of the first."""
        return (self.bins - 1) / 2 - self.offset / self.pitch

    @cached_property
    def positions(self) -> Float64[np.ndarray, "B"]:
        """Of the bins' centres on the detector, in radii from the axis."""
        return (np.arange(self.bins) - (self.bins - 1) / 2) * self.pitch + self.offset

    @cached_property
    def fan_angles(self) -> Float64[np.ndarray, "B"]:
        """By which the rays of a fan are turned from the central one; 0 of parallel beams."""
        if self.source is None:
            return np.zeros(self.bins)
        if self.detector == "arc":
            return self.positions / self.source
        return np.arctan(self.positions / self.source)

    @cached_property
    def shifts(self) -> Float64[np.ndarray, "V"]:
        """Of the centre of rotation, along each view's normal."""
        row, column = self.centre
        return column * np.cos(self.angles) - row * np.sin(self.angles)

    @cached_property
    def lines(self) -> tuple[Float64[Tensor, "M"], Float64[Tensor, "M"]]:
        """Angles of the normals and offsets of all lines, view by view."""
        angles, positions = self.angles[:, None], self.positions[None]
        if self.source is None:
            normals, offsets = angles + 0 * positions, self.shifts[:, None] + positions
        else:
            # A ray that is turned by gamma from the central one passes the axis at source * sin(gamma).
            gamma = self.fan_angles[None]
            normals, offsets = angles - gamma, 0 * angles + self.source * np.sin(gamma)
        return torch.from_numpy(normals.flatten()), torch.from_numpy(offsets.flatten())

    def finer(self, times: int) -> "Geometry":
        """The same with every bin cut in parts."""
        return replace(self, bins=self.bins * times)

    def alike(self, other: "Geometry") -> bool:
        """Whether another measures the same lines, by the same detector."""
        same = all(
            getattr(self, name) == getattr(other, name)
            for name in ("bins", "width", "source", "offset", "detector", "centre")
        )
        return same and np.array_equal(self.angles, other.angles)

    @property
    def beside(self) -> float:
        """How much of the disc's shadow lies beside the detector, on the side and in the view where most does."""
        half, seen = self.width / 2, shadow(self.source, self.detector)
        return max(0.0, seen - half + float(np.abs(self.offset + self.shifts).max()))

    @property
    def covers(self) -> bool:
        """Whether the detector is as wide as the disc appears on it, and hardly any of that lies beside it."""
        seen = shadow(self.source, self.detector)
        return self.width >= 2 * seen * (1 - 1e-6) and self.beside <= _OFF * seen + 1e-6


def shadow(source: float | None, detector: Detector = "flat") -> float:
    """Half of the width that the unit disc has on the detector, in radii."""
    if source is None:
        return 1.0
    return source / math.sqrt(source**2 - 1) if detector == "flat" else source * math.asin(1 / source)
