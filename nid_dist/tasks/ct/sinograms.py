"""Measured sinograms: an NPY file of line integrals, and a YAML file that says where the lines were."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from nid_dist.data.files import named_files
from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded, load_array
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.tasks.ct.finding import Finding, numbered
from nid_dist.tasks.ct.inspection import inspect
from nid_dist.tasks.ct.placement import axis_finding
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

    Warns:
        DoubtfulMeaning: as `read_scan`, of each cause once.
    """
    reader, findings = _Reader.of(geometry), dict[str, list[Finding]]()
    scans: dict[str, Scan] = {}
    given = str(sinograms) if isinstance(sinograms, str | Path) else "the stack"
    if isinstance(sinograms, str | Path) and expanded(sinograms).is_dir():
        files = named_files([expanded(sinograms)], [".npy"], "sinogram")
        for name, path in files:
            name = name.removesuffix(".npy")
            scans[name], findings[name] = reader.read(_loaded(str(path)), str(path))
    else:
        values = sinograms if isinstance(sinograms, np.ndarray) else _loaded(given)
        if getattr(values, "ndim", 0) != 3:
            name = given if isinstance(sinograms, np.ndarray) else Path(given).name
            scans[name], findings[name] = reader.read(values, given)
        elif len(values) == 0:
            raise UserError(given, found=f"an array of shape {values.shape}", expected="slices", hint="save some")
        else:
            reader.check_stack(values, given)
            for place, each in enumerate(values):
                name = f"slice-{place:05d}"
                scans[name], findings[name] = reader.read(each, f"{given}, slice {place}")
    _say(given, reader.geometry, findings)
    return scans


def read_scan(sinogram: str | Path | np.ndarray, geometry: str | Path | Geometry) -> Scan:
    """Read a measured sinogram.

    Args:
        sinogram: NPY or an array, [views, bins] (by scikit-image's convention [bins, views]): minus the logarithm of
            the part of the photons that arrives.
        geometry: YAML, with the keys of `ScanFile`; or a geometry in the package's units, the object's radius, for a
            clean sinogram in value times radius.

    Raises:
        UserError: for a file that cannot be read; angles in another unit than is said; a sinogram of another shape than
            its geometry, with numbers that are not finite, or that cannot be line integrals of an object within the
            disc, whatever it is (`nid_dist.tasks.ct.inspection`).

    Warns:
        DoubtfulMeaning: for one that hardly can be of its geometry, and what would explain it.
    """
    where = str(sinogram) if isinstance(sinogram, str | Path) else "the sinogram"
    reader = _Reader.of(geometry)
    scan, findings = reader.read(_loaded(where) if isinstance(sinogram, str | Path) else sinogram, where)
    _say(where, reader.geometry, {where: findings})
    return scan


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads sinograms of one geometry."""

    geometry: Geometry
    unit: float  # of the files' numbers, in value times radius
    dose: Dose
    bins_first: bool  # as scikit-image has them

    @staticmethod
    def of(geometry: str | Path | Geometry) -> "_Reader":
        if isinstance(geometry, Geometry):
            return _Reader(geometry, 1.0, Dose(), False)
        placed, dose, written = read_geometry(expanded(geometry))
        return _Reader(placed, written.unit_of_integrals, dose, written.convention == "skimage")

    @property
    def shape(self) -> tuple[int, int]:
        return self.geometry.views, self.geometry.bins

    def read(self, given: Any, where: str) -> tuple[Scan, list[Finding]]:
        numbers = self._numbers(given, where)
        values = numbers.astype(np.float64) / self.unit
        whole = numbers.dtype.kind in "iu" or bool(np.all(numbers == np.round(numbers)))
        findings = inspect(values, self.geometry, self.dose, 1 / self.unit if whole else 0.0)
        for each in findings:
            if each.certain:
                raise UserError(where, found=each.found, expected=each.wanted, hint=each.hint)
        return Scan(self.geometry, values.reshape(-1).astype(np.float32), self.dose), findings

    def check_stack(self, values: np.ndarray, where: str) -> None:
        """Refuse a stack whose slices are not its first axis."""
        own = self.shape[::-1] if self.bins_first else self.shape
        for place, name in ((1, "[views, slices, bins]"), (2, "[views, bins, slices]")):
            rest = tuple(np.delete(values.shape, place))
            if values.shape[1:] not in (self.shape, own) and rest == self.shape:
                raise UserError(
                    where,
                    found=f"an array of shape {values.shape}: {name}",
                    expected=f"[slices, views, bins], (slices, {self.shape[0]}, {self.shape[1]})",
                    hint=f"save numpy.moveaxis of it, from {place} to 0",
                )

    def _numbers(self, values: Any, where: str) -> np.ndarray:
        """[V, B], finite."""
        wanted = self.shape
        if self.bins_first and getattr(values, "shape", ()) == wanted[::-1]:
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
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(values.astype(np.float32))  # as they will be kept
        if wrong.any():
            raise UserError(
                where,
                found=f"{wrong.sum()} of {values.size} numbers that are NaN or infinite{_which(wrong)}",
                expected="finite line integrals",
                hint="save it as float32, as float16 ends at 65504"
                if values.dtype == np.float16 and np.isinf(values).any()
                else "set those that counted nothing to one photon before the logarithm is taken"
                if np.isposinf(values).any() and not np.isnan(values).any()
                else "remove these views from sinogram and geometry, or fill dead bins in from their neighbours",
            )
        return values


def _which(wrong: np.ndarray) -> str:
    """Whether they are whole bins, or whole views."""
    for axis, noun in ((0, "bin"), (1, "view")):
        whole = wrong.all(axis)
        if whole.any() and whole.sum() * wrong.shape[axis] == wrong.sum():
            return f": {numbered(noun, np.asarray(whole))}"
    return ""


def _say(where: str, geometry: Geometry, findings: dict[str, list[Finding]]) -> None:
    """Warn of what is likely wrong, of each cause in one line, however many slices have it."""
    causes: dict[str, dict[str, Finding]] = {}
    for name, found in findings.items():
        for each in found:
            causes.setdefault(each.cause, {})[name] = each
    for having in causes.values():
        name, one = next(iter(having.items()))
        axes = [each.axis for each in having.values() if each.axis is not None]
        if len(axes) > 1:
            one = axis_finding(geometry, float(np.median(axes)))
        of = f", {name}" if len(findings) > 1 and len(having) == 1 else ""
        many = f" (in {len(having)} of {len(findings)} slices, such as {name})" if len(having) > 1 else ""
        doubt(where + of, found=one.found + many, taken_as=one.wanted, hint=one.hint, stacklevel=3)


def _loaded(where: str) -> Any:
    try:
        return load_array(where)
    except Exception as error:  # a damaged header makes numpy raise anything, tokenize.TokenError among them
        found = "no such file" if not expanded(where).exists() else f"a file that cannot be read ({error})"
        raise UserError(
            where, found=found, expected="a sinogram as an NPY file", hint="save it with numpy.save"
        ) from None
