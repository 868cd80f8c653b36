"""Where a CT scanner measures: the lines of its views, in parallel or in fans.

The object lies in the unit disc. A line is the set {x : <x, n> = s} with normal n = (cos t, sin t) and offset s, in
axes that point right and up: a point of coordinates (row, column) has x = column and y = -row, as in scikit-image's
`radon`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

Beam = Literal["parallel", "fan"]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Views of equal detectors.

    Raises:
        ValueError: without views or bins, or with a source within the disc.
    """

    angles: Float64[np.ndarray, "V"]  # of each view, in radians. Of a fan, the normal of its central line.
    bins: int  # B, of the detector, which is centred on the axis
    # Of the detector, in radii of the disc; a fan's is scaled to the axis (flat, across the central line)
    width: float = 2.0
    source: float | None = None  # distance of a fan's source from the axis, in radii; None: parallel beams

    def __post_init__(self) -> None:
        if len(self.angles) == 0 or self.bins < 1 or not self.width > 0:
            raise ValueError("a geometry needs at least one view, one bin and a detector wider than 0")
        if self.source is not None and not self.source > 1:
            raise ValueError("the source of a fan lies outside the unit disc")

    @staticmethod
    def even(views: int, bins: int, source: float | None = None) -> "Geometry":
        """Views at equal angles over half a turn (a whole one of a fan), with a detector as wide as the disc appears.

        A fan has a source, at a distance in radii.
        """
        turn = math.pi if source is None else 2 * math.pi
        return Geometry(np.arange(views) * turn / views, bins, 2 * shadow(source), source)

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

    @cached_property
    def positions(self) -> Float64[np.ndarray, "B"]:
        """Of the bins' centres on the detector, in radii."""
        return (np.arange(self.bins) - (self.bins - 1) / 2) * self.pitch

    @cached_property
    def lines(self) -> tuple[Float64[Tensor, "M"], Float64[Tensor, "M"]]:
        """Angles of the normals and offsets of all lines, view by view."""
        angles, positions = self.angles[:, None], self.positions[None]
        if self.source is None:
            normals, offsets = angles + 0 * positions, 0 * angles + positions
        else:
            # A ray that is turned by gamma from the central one passes the axis at source * sin(gamma).
            gamma = np.arctan(positions / self.source)
            normals, offsets = angles - gamma, 0 * angles + self.source * np.sin(gamma)
        return torch.from_numpy(normals.flatten()), torch.from_numpy(offsets.flatten())

    def finer(self, times: int) -> "Geometry":
        """The same with every bin cut in parts."""
        return Geometry(self.angles, self.bins * times, self.width, self.source)

    @property
    def covers(self) -> bool:
        """Whether the detector is as wide as the disc appears on it."""
        return self.width >= 2 * shadow(self.source) * (1 - 1e-6)


def shadow(source: float | None) -> float:
    """Half of the width that the unit disc has on the detector, in radii."""
    return 1.0 if source is None else source / math.sqrt(source**2 - 1)
