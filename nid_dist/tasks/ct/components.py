"""A Gaussian prior on principal components, in pixels: what one writes in fifteen lines where slices are at hand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64

from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.tasks.ct.classical import image_matrix

Images = Float64[np.ndarray, "q S S"]


@dataclass(frozen=True, eq=False)
class Components:
    """The principal components of training slices, each by one standard deviation, strongest first."""

    mean: Float64[np.ndarray, "S S"]
    components: Images

    @staticmethod
    def of(slices: Float[np.ndarray, "N S S"]) -> "Components":
        """All that the slices have, by the eigenvectors of their inner products."""
        mean = slices.astype(np.float64).mean(0)
        points = (slices - mean).reshape(len(slices), -1)
        values, vectors = np.linalg.eigh(points @ points.T / len(points))
        kept = values[::-1] > 1e-9 * values[-1]
        directions = vectors[:, ::-1][:, kept].T @ points / np.sqrt(len(points))
        return Components(mean, directions.reshape(-1, *mean.shape))


@dataclass(frozen=True, eq=False)
class Scanned:
    """Components as a geometry measures them."""

    known: Components
    geometry: Geometry
    dose: Dose

    def reconstruct(self, measured: Float[np.ndarray, "M"], count: int, error: float) -> Float64[np.ndarray, "S S"]:
        """The most probable slice under some of the components, and independent noise.

        Args:
            error: standard deviation of the measurements from the components', besides the dose's noise.
        """
        mean, columns = self._measured
        used, parts = columns[:, :count], self.known.components[:count]
        noise = float(np.square(self.dose.deviation(measured), dtype=np.float64).mean()) + error**2
        system = used.T @ used + noise * np.eye(used.shape[1])
        latent = np.linalg.solve(system, used.T @ (measured - mean))
        found: np.ndarray = self.known.mean + np.tensordot(latent, parts, 1)
        return found

    @cached_property
    def _measured(self) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M q"]]:
        # One line in a bin: a pixel is a mean over as much already.
        matrix = image_matrix(self.geometry, len(self.known.mean), lines=1)
        flat = self.known.components.reshape(len(self.known.components), -1)
        return matrix @ self.known.mean.reshape(-1), matrix @ flat.T
