"""Measured sinograms: an NPY file of line integrals, and a YAML file that says where the lines were."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from nid_dist.data.files import named_files
from nid_dist.errors import UserError
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.tasks.ct.scan_file import read_geometry


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
    if isinstance(sinograms, str | Path) and Path(sinograms).is_dir():
        files = named_files([Path(sinograms)], [".npy"], "sinogram")
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
        sinogram: NPY or an array, [views, bins] (by scikit-image's convention [bins, views]): minus the logarithm of
            the part of the photons that arrives.
        geometry: YAML, with the keys of `ScanFile`; or a geometry in the package's units, the object's radius, for a
            clean sinogram in value times radius.

    Raises:
        UserError: for a file that cannot be read; angles in another unit than is said; a sinogram of another shape than
            its geometry, with numbers that are not finite, or of an object that reaches beyond the detector.
    """
    if isinstance(geometry, Geometry):
        placed, unit, dose, bins_first = geometry, 1.0, Dose(), False
    else:
        placed, dose, written = read_geometry(Path(geometry))
        unit, bins_first = written.unit_of_integrals, written.convention == "skimage"
    values = _numbers(sinogram, placed, bins_first) / unit
    _check_range("the sinogram" if isinstance(sinogram, np.ndarray) else str(sinogram), values, placed)
    return Scan(placed, values.reshape(-1).astype(np.float32), dose)


def _numbers(sinogram: str | Path | np.ndarray, geometry: Geometry, bins_first: bool) -> Float64[np.ndarray, "V B"]:
    values, where = sinogram, "the sinogram"
    if not isinstance(values, np.ndarray):
        where = str(sinogram)
        values = _loaded(where)
    wanted = (geometry.views, geometry.bins)
    if bins_first and getattr(values, "shape", ()) == wanted[::-1]:
        values = values.T
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
        return np.load(where, allow_pickle=False)
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
