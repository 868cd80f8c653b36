"""Fits of slices to their scans."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32

from nid_dist.code import save_codes
from nid_dist.coding.fit import Fit
from nid_dist.coding.judgement import BEYOND_NOISE, Judgement
from nid_dist.coding.method import Method
from nid_dist.errors import UserError
from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.pictures import save_image
from nid_dist.files import expanded, save_array, write_json
from nid_dist.fitting import wrong_kind
from nid_dist.model import Model
from nid_dist.tasks.ct.goodness import Goodness
from nid_dist.tasks.ct.reconstruction import Reconstructor
from nid_dist.tasks.ct.sinograms import Scan, read_scan
from nid_dist.tasks.images.config import ImagesSection

RIDGE = 1e-3
"""Relative ridge of methods that are asked for by name: few views say little."""


_BEYOND_STATED = 2.0  # times what noise would leave, where its dose is stated and detail experts are in use


@dataclass(frozen=True, eq=False)
class ScanFit(Fit):
    """A slice as a method finds it in its scan."""

    reconstructor: Reconstructor  # of its geometry and dose, with the model
    scan: Scan  # what was measured
    truth: Float[np.ndarray, "S S"] | None = None  # the slice itself, where it is known

    @property
    def psnr(self) -> float | None:
        """Against the truth, in dB; None where it is not known."""
        if self.truth is None:
            return None
        return psnr(self.render(len(self.truth))[..., 0], self.truth.astype(np.float32))

    @cached_property
    def goodness(self) -> Goodness:
        """What the slice leaves of its sinogram, line by line, beside what noise alone would."""
        sinogram = self.scan.sinogram
        left = sinogram - self.reconstructor.explained(self.solution)[0]
        stated: Literal["dose", "scan"] = "scan" if self.scan.dose.photons is None else "dose"
        return Goodness(left, self.reconstructor.deviation_of_lines(sinogram), stated)

    @property
    def judgement(self) -> Judgement:
        """Against the noise of the dose and of the model, and by how far the slice lies from those trained on."""
        model, noise = self.reconstructor.model, self.reconstructor.expected_noise(self.scan.sinogram[None])
        distance = None if self.mostly_detail else model.relative_distance(self.code)
        notes = ("unlike the training data: mostly detail",) if self.mostly_detail else ()
        stated = self.scan.dose.photons is not None
        if stated and self.goodness.per_ray is not None:
            notes = (f"chi² {self.goodness.per_ray:.2g} per ray, of which noise alone leaves 1", *notes)
        # Whatever the slice is, detail experts explain it; then what is left is noise, or contradicts itself.
        limit = _BEYOND_STATED if stated and self.code.detail is not None else BEYOND_NOISE
        error = max(self.residual, 0.0) ** 0.5
        return Judgement(error, noise, "what noise would leave", distance, limit, notes=notes)

    @property
    def mostly_detail(self) -> bool:
        """Whether the scan is so unlike the training data that the detail experts alone say what f is."""
        return self.code.detail is not None and not bool(self.code.values.any())

    def render(self, size: int | None = None) -> Float32[np.ndarray, "S S 1"]:
        """Evaluate f on a square of pixels, clipped to [0, 1], 0 outside the disc; None: as the dictionary's images."""
        picture: np.ndarray = self.reconstructor.render(self.solution, size)[0]
        return picture

    def deviation_at(self, size: int | None = None) -> Float32[np.ndarray, "S S"] | None:
        """Standard deviation of f on a square of pixels, before its code is made sparse; None without a prior."""
        if self.method.name != "map":
            return None
        return self.reconstructor.deviation(self.scan.sinogram, size)

    @cached_property
    def deviation(self) -> Float32[np.ndarray, "S S"] | None:
        """As `deviation_at` the pixels of the dictionary's images; None of a method that knows no prior."""
        return self.deviation_at()

    def write(self, folder: str | Path, **options: Any) -> dict[str, Any]:
        """As `write_fits`."""
        return write_fits(expanded(folder), {self.method.label: self}, **options)


def fit(
    model: Model,
    signals: Sequence[Any],
    methods: Sequence[str | Method] | None,
    *,
    model_error: float | None = None,
    truth: Float[np.ndarray, "S S"] | None = None,
) -> Iterator[dict[str, ScanFit]]:
    """Fit scans, one after the other: the fits of each by the methods' labels.

    Scans of equal geometry share what depends on it.

    Args:
        model: of whole grey images.
        signals: each a `Scan`, or a sinogram and its geometry as `read_scan` takes them.
        methods: None: `detail` and `map` where there is a prior, `ridge` where there is a gate, otherwise `omp`.
        model_error: standard deviation of a sinogram from the nearest that the dictionary can give, besides the noise;
            None: as the scan says.
        truth: the slice, for `ScanFit.psnr`.

    Raises:
        UserError: for anything else than a scan, a scan that is wrong in itself, or a dictionary of other signals.
    """
    require_slices(model)
    chosen = usual_methods(model) if methods is None else [Method.of(method, ridge=RIDGE) for method in methods]
    reconstructor: Reconstructor | None = None
    for signal in signals:
        scan = _scan(signal)
        if reconstructor is None or not _alike(reconstructor, scan):
            reconstructor = Reconstructor(model, scan.geometry, scan.dose, model_error)
        solutions = reconstructor.solve(scan.sinogram[None], chosen)
        yield {method.label: ScanFit(method, solutions[method.label], reconstructor, scan, truth) for method in chosen}


def usual_methods(model: Model, ridge: float = RIDGE) -> list[Method]:
    """`detail`, `map` and `ridge`, as far as the dictionary has a prior and a gate; `omp` where it has neither."""
    names = [*(["detail", "map"] if model.prior is not None else []), *(["ridge"] if model.gate_reads_signals else [])]
    return [Method(name, ridge=ridge) for name in names or ["omp"]]


def write_fits(folder: Path, fits: Mapping[str, ScanFit], size: int | None = None, **facts: Any) -> dict[str, Any]:
    """Write codes, each slice as PNG and NPY, the filtered back-projection, all of them side by side, and figures.

    With `map` also how uncertain it is: standard deviations as NPY, and as PNG, white where they are a quarter or more.

    Args:
        fits: of one scan, by label.
        size: pixels a side; None: those of the dictionary's images.
        facts: for `results.json`.

    Returns:
        What is in `results.json`: its `rows` are one for each fit.
    """
    one = next(iter(fits.values()))
    reconstructor, scan, geometry = one.reconstructor, one.scan, one.scan.geometry
    seen = reconstructor.back_projection(scan.sinogram[None])[0][..., None].clip(0, 1)
    save_image(folder / "back-projection.png", seen)
    panels: dict[str, tuple[np.ndarray, str]] = {"filtered back-projection": (seen, "")}
    rows: list[dict[str, Any]] = []
    for label, each in fits.items():
        picture, nonzeros = each.render(size), int((each.code.values != 0).sum())
        save_image(folder / f"{label}.png", picture)
        save_array(folder / f"{label}.npy", picture[..., 0])
        deviation = each.deviation_at(size)
        if deviation is not None:
            save_array(folder / f"{label}-deviation.npy", deviation)
            save_image(folder / f"{label}-deviation.png", np.clip(4 * deviation, 0, 1)[..., None])
        rows.append({"solver": label, "nonzeros": nonzeros, "seconds": each.seconds, **each.judgement.facts()})
        rows[-1] |= each.goodness.facts()
        panels[label] = (picture, f"{nonzeros} coefficients")
    title = f"{geometry.views} views of {geometry.bins} bins, {geometry.beam} beams, {scan.dose.label}"
    picture_grid(folder / "comparison.png", {"": panels}, title=title)
    told: dict[str, Any] = {
        "views": geometry.views,
        "bins": geometry.bins,
        "beam": geometry.beam,
        "photons": scan.dose.photons,
    }
    told |= {"axis": geometry.axis, "detector": geometry.detector, "centre_of_rotation": list(geometry.centre)}
    codes = {label: each.code for label, each in fits.items()}
    save_codes(folder / "codes.safetensors", codes, reconstructor.model.dictionary.num_experts, told)
    figures = {**facts, **told, "seconds_prepared": reconstructor.seconds, "rows": rows}
    write_json(folder / "results.json", figures)
    return figures


def require_slices(model: Model, name: str = "the dictionary") -> None:
    """Refuse a dictionary, called `name`, of anything but whole grey images on a square.

    Raises:
        UserError: saying what it is.
    """
    signals = model.config.signals_of(ImagesSection, name)
    if signals.patch is not None or model.channels != 1:
        raise UserError(
            name,
            found=f"a dictionary of {model.channels} channel(s), signals.patch {signals.patch}",
            expected="one of whole grey images, to be scanned whole",
            hint="train one, as configs/ct_shepp_logan.yaml does",
        )


def _scan(signal: Any) -> Scan:
    if isinstance(signal, Scan):
        return signal
    if not isinstance(signal, tuple) or len(signal) != 2:
        raise wrong_kind(
            signal, "a sinogram and its geometry, as this dictionary is of CT", "give (sinogram, geometry)"
        )
    sinogram, geometry = signal
    return read_scan(np.asarray(sinogram.cpu()) if isinstance(sinogram, torch.Tensor) else sinogram, geometry)


def _alike(reconstructor: Reconstructor, scan: Scan) -> bool:
    return reconstructor.dose == scan.dose and reconstructor.geometry.alike(scan.geometry)
