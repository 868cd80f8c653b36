"""Measured sinograms: an NPY file of line integrals, and a YAML file that says where the lines were."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nid_dist.config.loading import load_as
from nid_dist.data.files import named_files
from nid_dist.errors import UserError
from nid_dist.files import expanded, load_array
from nid_dist.measurements.geometry import Geometry, shadow
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
    bins: Count = Field(description="of the detector, which is centred on the axis")
    radius: Positive = Field(1.0, description="of the disc that the object lies in")
    width: Positive | None = Field(None, description="of the detector (a fan's, scaled to the axis); null: all it sees")
    source: Positive | None = Field(None, description="distance of a fan's source from the axis")
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
        if self.source is not None and self.source <= self.radius:
            raise ValueError(f"source {self.source:g} lies within radius {self.radius:g}; it is outside the object")
        return self


@dataclass(frozen=True, eq=False)
class Scan:
    """A measured sinogram in the package's units."""

    geometry: Geometry  # where it was measured, with the object's radius as unit
    sinogram: Float32[np.ndarray, "M"]  # integrals of value times radius, view by view
    dose: Dose  # with which it was measured


def read_scans(sinograms: str | Path | np.ndarray, geometry: str | Path | Geometry) -> dict[str, "Scan"]:
    """Read the sinograms of many slices, measured alike: the scans by name, in order.

    Args:
        sinograms: a folder of NPY files of [views, bins]; or one NPY or array, [slices, views, bins] or [views, bins].
        geometry: as `read_scan` takes it.

    Raises:
        UserError: as `read_scan`, saying which of them is wrong; and for a folder or a stack with nothing in it.
    """
    if not isinstance(sinograms, np.ndarray):
        sinograms = expanded(sinograms)
    if isinstance(sinograms, Path) and sinograms.is_dir():
        files = named_files([sinograms], [".npy"], "sinogram")
        return {name.removesuffix(".npy"): read_scan(path, geometry) for name, path in files}
    values = sinograms if isinstance(sinograms, np.ndarray) else _loaded(str(sinograms))
    where = "the stack" if isinstance(sinograms, np.ndarray) else str(sinograms)
    if getattr(values, "ndim", 0) != 3:
        return {where if isinstance(sinograms, np.ndarray) else Path(where).name: read_scan(sinograms, geometry)}
    if len(values) == 0:
        raise UserError(where, found=f"an array of shape {values.shape}", expected="slices", hint="save some")
    found = {}
    for place, each in enumerate(values):
        try:
            found[f"slice-{place:05d}"] = read_scan(each, geometry)
        except UserError as error:
            raise UserError(
                f"{where}, slice {place}", found=error.found, expected=error.expected, hint=error.hint
            ) from None
    return found


def read_scan(sinogram: str | Path | np.ndarray, geometry: str | Path | Geometry) -> Scan:
    """Read a measured sinogram.

    Args:
        sinogram: NPY or an array, [views, bins]: minus the logarithm of the part of the photons that arrives.
        geometry: YAML, with the keys of `ScanFile`; or a geometry in the package's units, the object's radius, for a
            clean sinogram in value times radius.

    Raises:
        UserError: for a file that cannot be read; angles in another unit than is said; a sinogram of another shape than
            its geometry, with numbers that are not finite, or of an object that reaches beyond the detector.
    """
    placed, unit, dose = geometry, 1.0, Dose()
    if not isinstance(placed, Geometry):
        written = load_as(ScanFile, expanded(geometry))  # type: ignore[arg-type]
        placed, unit = _placed(written, expanded(geometry)), written.scale * written.radius  # type: ignore[arg-type]
        dose = Dose(written.photons, unit, written.electronic)
    values = _numbers(sinogram, placed) / unit
    _check_range("the sinogram" if isinstance(sinogram, np.ndarray) else str(sinogram), values, placed)
    return Scan(placed, values.reshape(-1).astype(np.float32), dose)


def _placed(written: ScanFile, path: Path) -> Geometry:
    angles = _angles(written, path)
    source = None if written.source is None else written.source / written.radius
    width = 2 * shadow(source) if written.width is None else written.width / written.radius
    found = Geometry(angles, written.bins, width, source)
    if not found.covers:
        needed = 2 * shadow(source) * written.radius
        raise UserError(
            f"{path}: width",
            found=f"a detector of width {written.width:g}: truncated",
            expected=f"at least {needed:g}, as wide as the object of radius {written.radius:g} appears on it",
            hint="correct width or radius; integrals that were not measured cannot be replaced",
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
    return given if written.unit == "radians" else np.deg2rad(given)


def _numbers(sinogram: str | Path | np.ndarray, geometry: Geometry) -> Float64[np.ndarray, "V B"]:
    values, where = sinogram, "the sinogram"
    if not isinstance(values, np.ndarray):
        where = str(sinogram)
        values = _loaded(where)
    wanted = (geometry.views, geometry.bins)
    if not isinstance(values, np.ndarray) or values.shape != wanted:
        shape = getattr(values, "shape", "of an archive")
        turned = shape == wanted[::-1]
        raise UserError(
            where,
            found=f"an array of shape {shape}",
            expected=f"{wanted}: the geometry's {wanted[0]} views of {wanted[1]} bins",
            hint="transpose it"
            if turned
            else "fit what read_scans finds in it: a slice each"
            if len(shape) == 3 and shape[1:] == wanted
            else "correct the geometry, or choose the sinogram that belongs to it",
        )
    if values.dtype.kind not in "fiu":
        raise UserError(
            where, found=f"numbers of type {values.dtype}", expected="real numbers", hint="save it as float32"
        )
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise UserError(
            where,
            found=f"{bad} of {values.size} numbers that are NaN or infinite",
            expected="finite line integrals",
            hint="remove these views from sinogram and geometry, or fill dead bins in from their neighbours",
        )
    return values.astype(np.float64)


def _loaded(where: str) -> Any:
    try:
        return load_array(where)
    except (OSError, ValueError, EOFError) as error:
        found = "no such file" if not Path(where).exists() else f"a file that cannot be read ({error})"
        raise UserError(
            where, found=found, expected="a sinogram as an NPY file", hint="save it with numpy.save"
        ) from None


def _check_range(where: str, values: Float64[np.ndarray, "V B"], geometry: Geometry) -> None:
    """Values of f lie in [0, 1], so that no integral is longer than its line within the disc."""
    offsets = geometry.lines[1].numpy().reshape(values.shape)
    chords = 2 * np.sqrt(np.clip(1 - offsets**2, 0, None))
    # Means over the views, against noise.
    excess = (values - chords).mean(0) - 3 * values.std(0) / math.sqrt(len(values)) - 0.1
    edge = max(1, geometry.bins // 32)
    if max(excess[:edge].max(), excess[-edge:].max()) > 0:
        raise UserError(
            where,
            found=f"integrals of {max(values[:, 0].mean(), values[:, -1].mean()):.3g} at the detector's ends: "
            "truncated, or in other units",
            expected="nearly nothing there, as the object lies within the geometry's radius",
            hint="correct radius, width or scale in the geometry",
        )
    if excess.max() > 0:
        raise UserError(
            where,
            found=f"integrals up to {values.max():.3g} times radius and scale",
            expected="at most 2, of an object of value 1 all over the disc",
            hint="correct scale (nepers per unit of length in what has value 1) or radius in the geometry",
        )
