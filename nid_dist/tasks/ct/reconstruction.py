"""From a scan to f: codes solved from a sinogram alone, with a gate that sees its back-projection at most.

Nothing here takes an image: what is known of a new signal is its sinogram, the geometry and the dose.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nid_dist.coding.method import Method
from nid_dist.coding.solvers import Solution
from nid_dist.coding.solvers.evidence import likely_noise
from nid_dist.coding.solvers.map import posterior
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.device import Stopwatch, to_device
from nid_dist.fitting import fit_signals
from nid_dist.measurements.back_projection import BackProjection
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.measurements.sampling import Field, Measurement
from nid_dist.model import Model

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
        measured = self._on_device(sinograms)[..., None]
        gate_input = self.gate_input(sinograms) if any(method.needs_gate for method in methods) else None
        if any(method.name == "map" for method in methods):
            noise = self.noise(sinograms)
            methods = [replace(method, noise=noise) if method.name == "map" else method for method in methods]
        return fit_signals(self.model, self.measurement, measured, methods, gate_input)

    @torch.no_grad()
    def render(self, fit: Solution, side: int | None = None) -> Float32[np.ndarray, "T S S 1"]:
        """f on a square of pixels of any size, clipped to [0, 1], 0 outside the disc."""
        side = side or self.side
        inside = (coordinate_grid((side, side)).norm(dim=1) <= 1).reshape(side, side, 1)
        images: np.ndarray = (self.model.render(fit.code, side, side).cpu().clamp(0, 1) * inside).numpy()
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


_POINTS = 2**15  # at which the features are evaluated at a time: 64 MiB for 512 of them


def as_gate_input(images: Float[Tensor, "T S S"]) -> Float[Tensor, "T C 1"]:
    """Back-projections as a gate takes signals: no signal leaves [0, 1], as their streaks do."""
    return images.clamp(0, 1).flatten(1)[..., None]
