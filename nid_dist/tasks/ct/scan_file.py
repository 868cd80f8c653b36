"""The YAML file that says where a sinogram was measured."""

import math
import warnings
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nid_dist.config.loading import load_as
from nid_dist.errors import UserError
from nid_dist.measurements.geometry import Detector, Geometry, shadow
from nid_dist.measurements.noise import Dose

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ScanFile(BaseModel):
    """A geometry as it is written; lengths are in any unit, the same for all."""

    model_config = ConfigDict(extra="forbid")

    beam: Literal["parallel", "fan"] = "parallel"
    unit: Literal["degrees", "radians"] = Field(description="of angles, first and arc")
    views: Count | None = Field(None, description="equal steps over `arc`; or list `angles`")
    first: Finite = Field(0.0, description="angle of the first view")
    arc: Positive | None = Field(None, description="that `views` divide; null: half a turn, of a fan a whole one")
    angles: list[Finite] | None = Field(None, description="of every view")
    direction: Literal["counterclockwise", "clockwise"] = Field(
        "counterclockwise", description="in which the angles grow, with rows that point down and columns right"
    )
    bins: Count = Field(description="of the detector")
    radius: Positive | None = Field(
        None, description="of the disc that the object lies in; null: 1, by scikit-image's convention half the bins"
    )
    width: Positive | None = Field(None, description="of the detector (a fan's, scaled to the axis); null: all it sees")
    offset: Finite | None = Field(
        None, description="of the detector's centre from where the axis of rotation falls, towards higher bins; or axis"
    )
    axis: Finite | None = Field(
        None, description="where the axis of rotation falls, in bins: 0 is the middle of the first; null: the centre"
    )
    detector: Detector = Field("flat", description="of a fan: across its central line, or an arc about the source")
    source: Positive | None = Field(None, description="distance of a fan's source from the axis")
    convention: Literal["skimage"] | None = Field(
        None,
        description="skimage: as scikit-image's `radon` returns it, [bins, views], in pixels, about the pixel N // 2 "
        "(of an even side half a bin off the centre)",
    )
    scale: Positive = Field(1.0, description="nepers per unit of length in what has value 1")
    photons: Positive | None = Field(None, description="that a bin counts per view without object; null: no noise")
    electronic: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="standard deviation of the detector's own noise, in photons"
    )

    @model_validator(mode="after")
    def _check(self) -> "ScanFile":
        if (self.views is None) == (self.angles is None):
            raise ValueError("one of views and angles is needed; say how many views, or list their angles")
        if self.angles is not None and not self.angles:
            raise ValueError("angles is an empty list: zero views; list the angle of every view")
        if (self.beam == "fan") != (self.source is not None):
            raise ValueError(
                f"beam {self.beam} and source {self.source} do not fit; a fan, and only a fan, has a source"
            )
        if self.source is not None and self.source <= self.size:
            raise ValueError(f"source {self.source:g} lies within radius {self.size:g}; it is outside the object")
        if self.detector == "arc" and self.beam != "fan":
            raise ValueError("detector arc and beam parallel do not fit; only a fan's detector is an arc")
        if self.offset is not None and self.axis is not None:
            raise ValueError("offset and axis say the same; give one of them")
        if self.axis is not None and not -0.5 <= self.axis <= self.bins - 0.5:
            raise ValueError(f"axis {self.axis:g} lies off the detector; it is in bins, 0 to {self.bins - 1}")
        if self.convention is not None:
            self._check_skimage()
        return self

    def _check_skimage(self) -> None:
        for name in ("width", "offset", "axis", "source"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} and convention skimage do not fit; the convention says it: leave one out")
        if abs(2 * self.size - round(2 * self.size)) > 1e-6:
            raise ValueError(f"radius {self.size:g} is not half a number of pixels; say half the image's side")

    @property
    def size(self) -> float:
        """The radius of the disc, in the file's unit."""
        if self.radius is not None:
            return self.radius
        return 1.0 if self.convention is None else self.bins / 2

    @property
    def unit_of_integrals(self) -> float:
        """Nepers that make value 1 over one radius."""
        return self.scale * self.size


def read_geometry(path: Path) -> tuple[Geometry, Dose, ScanFile]:
    """Read a geometry file: where was measured, in radii of the object, and at which dose.

    Raises:
        UserError: for what is no such file, contradicts itself, or measures only a part of the object.
    """
    written = load_as(ScanFile, path)
    return _placed(written, path), Dose(written.photons, written.unit_of_integrals, written.electronic), written


def _placed(written: ScanFile, path: Path) -> Geometry:
    angles, radius = _angles(written, path), written.size
    if written.convention is not None:
        return Geometry.skimage(angles, written.bins, round(2 * radius))
    source = None if written.source is None else written.source / radius
    seen = shadow(source, written.detector)
    width = 2 * seen if written.width is None else written.width / radius
    offset = (written.offset or 0.0) / radius
    if written.axis is not None:
        offset = ((written.bins - 1) / 2 - written.axis) * width / written.bins
    found = Geometry(angles, written.bins, width, source, offset, written.detector)
    if not found.covers:
        narrow = width < 2 * seen * (1 - 1e-6)
        aside = f", its centre {offset * radius:.4g} from the axis" if offset else ""
        raise UserError(
            f"{path}: {'width' if narrow else 'axis' if written.axis is not None else 'offset'}",
            found=f"a detector of width {width * radius:g}{aside}: truncated",
            expected=f"at least {2 * seen * radius:g}, as wide as the object of radius {radius:g} appears on it"
            + (", about the axis" if offset else ""),
            hint="correct width or radius; integrals that were not measured cannot be replaced"
            if narrow or not offset
            else "correct axis or offset; scans whose detector sees hardly more than one half are not reconstructed",
        )
    return found


def _angles(written: ScanFile, path: Path) -> Float64[np.ndarray, "V"]:
    turn = 360.0 if written.unit == "degrees" else 2 * math.pi
    if written.angles is not None:
        given = np.array(written.angles)
    else:
        assert written.views is not None
        arc = written.arc if written.arc is not None else turn / (2 if written.source is None else 1)
        given = written.first + arc * np.arange(written.views) / written.views
    largest = float(np.abs(given).max())
    # Nobody counts a second turn in radians, but 180 degrees are as many radians as 28 turns.
    if written.unit == "radians" and largest > 2 * turn:
        raise UserError(
            f"{path}: angles",
            found=f"up to {largest:g} with unit radians",
            expected=f"at most {2 * math.pi:.4g}, a whole turn: these look like degrees",
            hint="set unit to degrees",
        )
    span = float(given.max() - given.min())
    if written.unit == "degrees" and len(given) > 2 and 0 < span <= 2 * math.pi:
        warnings.warn(
            f"{path}: all {len(given)} views lie within {span:.3g} degrees; if these are radians, set unit to radians",
            stacklevel=2,
        )
    turned = given if written.unit == "radians" else np.deg2rad(given)
    return -turned if written.direction == "clockwise" else turned
