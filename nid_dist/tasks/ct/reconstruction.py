"""From a scan to f: codes solved from a sinogram alone, with a gate that sees its back-projection at most.

Nothing here takes an image: what is known of a new signal is its sinogram, the geometry and the dose.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.judgement import BEYOND_NOISE
from nid_dist.coding.method import Method
from nid_dist.coding.solvers import Solution
from nid_dist.coding.solvers.evidence import likely_noise
from nid_dist.coding.solvers.map import posterior
from nid_dist.coding.solvers.solution import Log
from nid_dist.coding.solvers.statistics import constant_measured
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.detail import Detail
from nid_dist.detail.splines import SplineGrid
from nid_dist.device import Stopwatch, to_device
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.fitting import fit_signals, join
from nid_dist.measurements.back_projection import BackProjection
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose, white_noise
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.measurements.sampling import Field, Measurement
from nid_dist.model import Model
from nid_dist.tasks.ct.detail import VARIATION, Joint

MODEL_ERROR = 0.005
"""What `model_error` is expected to be, with a dictionary that knows such slices."""


@dataclass
class Remembered:
    """A measurement that keeps what it found of a field, for signals that come one after the other."""

    measurement: Measurement
    # what R made of a field, by the field's identity, with the field itself, so that it stays what it is
    kept: dict[int, tuple[Field, Tensor]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """M."""
        return self.measurement.size

    def remember(self, known: Field, rows: int) -> None:
        """Measure a field once and for all; it must not change afterwards."""
        parts = torch.cat([part for _, part in self.measurement.chunks(known, rows)])
        self.kept[id(known)] = (known, parts)

    def chunks(self, field: Field, rows: int) -> Iterator[tuple[slice, Tensor]]:
        """As the measurement's, or at once what is remembered."""
        known = self.kept.get(id(field))
        if known is None:
            yield from self.measurement.chunks(field, rows)
        else:
            yield slice(0, self.size), known[1]


class Reconstructor:
    """Solves codes of whole images on a square from sinograms of one geometry and dose.

    `model_error` is the standard deviation that a sinogram has from that of the nearest f the dictionary can be, in
    value times radius; None: as the scans under the prior say, noise included, and no less than `MODEL_ERROR`.
    """

    def __init__(self, model: Model, geometry: Geometry, dose: Dose, model_error: float | None = None) -> None:
        self.model, self.geometry, self.dose, self.model_error = model, geometry, dose, model_error
        watch = Stopwatch(model.device)
        self.side = model.grid_shape[0]
        self._back_projection = BackProjection(geometry, self.side)
        tomography = model.config.tomography
        finer = 1 if tomography is None else tomography.finer
        radon = Radon(geometry, nodes_for(finer * self.side), model.device)
        self.measurement = Remembered(radon)
        self.seconds = watch.seconds()
        """Spent on the geometry, before any scan."""

    @torch.no_grad()
    def prepare(self) -> None:
        """Measure the trunk's features, which all signals of this geometry share, unless it has been done."""
        if self.measurement.kept:
            return
        watch = Stopwatch(self.model.device)
        self.measurement.remember(self.model.dictionary.trunk, _POINTS)
        self.seconds += watch.seconds()

    def gate_input(self, sinograms: Float32[np.ndarray, "T M"]) -> Float[Tensor, "T C 1"]:
        """What the gate sees of scans, on the model's device: their filtered back-projections."""
        return as_gate_input(self._back_projection(self._on_device(sinograms)))

    def back_projection(self, sinograms: Float32[np.ndarray, "T M"]) -> Float32[np.ndarray, "T S S"]:
        """Filtered back-projections of scans, not clipped."""
        images: np.ndarray = self._back_projection(self._on_device(sinograms)).cpu().numpy()
        return images

    def _on_device(self, sinograms: Float32[np.ndarray, "T M"]) -> Float[Tensor, "T M"]:
        # A copy: what is kept of scans is not to be written to.
        return to_device(torch.tensor(sinograms), self.model.device)

    def _dose_square(self, sinograms: Float32[np.ndarray, "T M"]) -> float:
        return float(np.square(self.dose.deviation(sinograms), dtype=np.float64).mean())

    def expected_noise(self, sinograms: Float32[np.ndarray, "T M"]) -> float:
        """What `noise` is, whatever the scans say of it, where such slices were trained on."""
        return math.sqrt(
            self._dose_square(sinograms) + (MODEL_ERROR if self.model_error is None else self.model_error) ** 2
        )

    def noise(self, sinograms: Float32[np.ndarray, "T M"]) -> float:
        """Standard deviation of the measurements from what the dictionary can be, of noise and model together.

        Raises:
            UserError: when the scans are to say it, and there is no prior.
        """
        # Slices that are no Gaussian's are met more closely by one than they are like it.
        return max(self._likely_noise(sinograms), self.expected_noise(sinograms))

    def _likely_noise(self, sinograms: Float32[np.ndarray, "T M"]) -> float:
        if self.model_error is not None:
            return self.expected_noise(sinograms)
        return self._said_noise(sinograms)

    def _said_noise(self, sinograms: Float32[np.ndarray, "T M"]) -> float:
        """What the scans say of their distance from the prior, whatever `model_error` is; no less than the dose's."""
        self.prepare()
        measured, prior = self._on_device(sinograms)[..., None], self.model.require_prior()
        found = likely_noise(self.model.dictionary, self.measurement, measured, prior)
        return max(found, math.sqrt(self._dose_square(sinograms)))

    def solve(self, sinograms: Float32[np.ndarray, "T M"], methods: Sequence[Method]) -> dict[str, Solution]:
        """Solve the codes of scans, view by view, by each method: codes by the methods' labels.

        The noise of `map` is set to what `noise` says.

        Raises:
            UserError: when the gate or the prior that a method needs is not there.
        """
        self.prepare()
        found: dict[str, Solution] = {}
        for method in methods:
            if method.name == "detail":
                found[method.label] = join([self._solve_detail(each, method) for each in sinograms])
        methods = [method for method in methods if method.name != "detail"]
        if not methods:
            return found
        measured = self._on_device(sinograms)[..., None]
        gate_input = self.gate_input(sinograms) if any(method.needs_gate for method in methods) else None
        if any(method.name == "map" for method in methods):
            noise = self.noise(sinograms)
            methods = [replace(method, noise=noise) if method.name == "map" else method for method in methods]
        return found | fit_signals(self.model, self.measurement, measured, methods, gate_input)

    @cached_property
    def joint(self) -> Joint:
        """The problem that `detail` solves, prepared."""
        watch = Stopwatch(self.model.device)
        joint = Joint(self.model, self.geometry)
        joint.prepare()
        self.seconds += watch.seconds()
        return joint

    def deviation_of_lines(self, sinogram: Float32[np.ndarray, "M"]) -> Float32[np.ndarray, "M"]:
        """Standard deviation of each line's noise: of the dose, or where none is stated as the scan itself says."""
        if self.dose.photons is not None:
            return self.dose.deviation(sinogram)
        return np.full_like(sinogram, white_noise(sinogram.reshape(self.geometry.views, -1)))

    @torch.no_grad()
    def _solve_detail(self, sinogram: Float32[np.ndarray, "M"], method: Method) -> Solution:
        """`map` of a scan, and what the detail experts add to it; detail alone where the scan is unlike the prior."""
        joint, model = self.joint, self.model
        watch = Stopwatch(model.device)
        measured, deviation = self._on_device(sinogram[None]), self.deviation_of_lines(sinogram)
        own = float(np.square(deviation, dtype=np.float64).mean())
        usual = math.hypot(MODEL_ERROR if self.model_error is None else self.model_error, math.sqrt(own))
        # Whatever was said of the model's error: a scan that is unlike the prior must not be forced to look like it.
        noise = max(self._said_noise(sinogram[None]), usual)
        known = fit_signals(
            model, self.measurement, measured[..., None], [Method("map", method.steps or _BLOCKS, noise=noise)]
        )
        code = next(iter(known.values())).code
        # A line adds up pixels by their width, as many as its chord is long.
        beside = math.sqrt((noise**2 - own) / (joint.chord * 2 / self.side))
        pixels = model.render(code)[..., 0].flatten(1)
        found = joint.solve(
            measured,
            self._on_device(deviation[None]),
            measured.new_tensor([beside]),
            pixels,
            VARIATION if method.variation is None else method.variation,
        )
        values = found.values.to(model.device)
        if noise >= BEYOND_NOISE * usual:
            code = Code(0 * code.values, 0 * code.bias, code.indices, code.present)
        else:
            values = values - joint.spread(pixels.t().to(joint.device)).permute(2, 0, 1).to(model.device)
        grid = SplineGrid.on_pixels((joint.side, joint.side))
        code = replace(code, detail=Detail((grid,), values.flatten(1)[..., None].to(code.bias.dtype)))
        log = Log([{"steps": float(found.steps), "residual": float(found.residual.mean())}])
        return Solution(code, found.residual.to(code.bias), log, seconds=watch.seconds())

    @torch.no_grad()
    def explained(self, fit: Solution) -> Float32[np.ndarray, "T M"]:
        """The line integrals of what was found; of codes with detail those of their values on the finer grid."""
        self.prepare()
        code, model = fit.code, self.model
        if code.detail is not None:
            joint = self.joint
            known = replace(code, detail=None)
            pixels = model.render(known)[..., 0].flatten(1)
            fine = joint.spread(pixels.t().to(joint.device)).flatten(0, 1) + code.detail.values[..., 0].t().to(
                joint.device
            )
            return joint.measure(fine).t().cpu().numpy()
        lengths = constant_measured(self.measurement, code.bias)
        heads = model.dictionary.experts
        if isinstance(heads, LinearHeads):
            parts = [part for _, part in self.measurement.chunks(model.dictionary.trunk, _POINTS)]
            merged = heads.merge(code)
            offset = merged[:, heads.width :] + code.bias
            found = torch.cat(parts) @ merged[:, : heads.width].t() + lengths[:, None].to(offset) * offset[:, 0]
        else:
            lines = self.measurement.chunks(lambda x: model.dictionary(code, x)[..., 0].t(), _POINTS)
            found = torch.cat([part for _, part in lines])
        measured: np.ndarray = found.t().float().cpu().numpy()
        return measured

    @torch.no_grad()
    def render(self, fit: Solution, side: int | None = None) -> Float32[np.ndarray, "T S S 1"]:
        """f on a square of pixels of any size, clipped to [0, 1], each times the share of it that lies in the disc."""
        side = side or self.side
        images: np.ndarray = (self.model.render(fit.code, side, side).cpu().clamp(0, 1) * disc_coverage(side)).numpy()
        return images

    @torch.no_grad()
    def deviation(self, sinogram: Float32[np.ndarray, "M"], side: int | None = None) -> Float32[np.ndarray, "S S"]:
        """Standard deviation of f given a scan, under the prior and the noise that the scan says; 0 outside the disc.

        What a scan has beside the dictionary and its dose counts as white noise of the pixels, which is as far from f.

        Raises:
            UserError: when there is no prior.
        """
        self.prepare()
        model, side = self.model, side or self.side
        measured, coords = self._on_device(sinogram[None])[..., None], coordinate_grid((side, side))
        noise = self._likely_noise(sinogram[None])
        known = posterior(model.dictionary, self.measurement, measured, model.require_prior(), noise)
        found = known.deviation(model.dictionary, coords.to(model.device)).cpu()[:, 0]
        # A line adds up pixels by their width, as many as its chord is long.
        beside = max(noise**2 - self._dose_square(sinogram[None]), 0.0)
        chord = float(known.statistics.constant.sqrt())
        found = (found.square() + beside / (chord * 2 / self.side)).sqrt()
        spread: np.ndarray = (found * (coords.norm(dim=1) <= 1)).reshape(side, side).numpy()
        return spread


def disc_coverage(side: int) -> Float[Tensor, "S S 1"]:
    """The share of each pixel that the disc covers."""
    fine = (coordinate_grid((_PARTS * side, _PARTS * side)).norm(dim=1) <= 1).float()
    return fine.reshape(side, _PARTS, side, _PARTS).mean((1, 3))[..., None]


_PARTS = 4  # along an axis of a pixel
_BLOCKS = 16  # rounds in which the code of `detail` is selected
_POINTS = 2**15  # at which the features are evaluated at a time: 64 MiB for 512 of them


def as_gate_input(images: Float[Tensor, "T S S"]) -> Float[Tensor, "T C 1"]:
    """Back-projections as a gate takes signals: no signal leaves [0, 1], as their streaks do."""
    return images.clamp(0, 1).flatten(1)[..., None]
