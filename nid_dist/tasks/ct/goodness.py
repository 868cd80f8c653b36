"""How well a reconstruction explains its sinogram, beside what noise alone would explain."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Goodness:
    """What a reconstruction leaves of a sinogram, in the noise's units."""

    residual: Float[np.ndarray, "M"]  # of each line: what was measured less the integral through what was found
    deviation: Float[np.ndarray, "M"]  # of each line's noise
    stated: Literal["dose", "scan"]  # who says so: the geometry's photons, or the differences of neighbouring bins

    @cached_property
    def noise(self) -> float:
        """Root mean square of what noise alone would leave, in value times radius."""
        return float(np.sqrt(np.square(self.deviation, dtype=np.float64).mean()))

    @cached_property
    def per_ray(self) -> float | None:
        """chi² per ray, the mean square in standard deviations: 1 where noise is all that is left; None without any.

        Less than 1 where what is found follows the noise, as it can from few views.
        """
        if not self.deviation.all():
            return None
        return float(np.square(self.residual / self.deviation, dtype=np.float64).mean())

    def facts(self) -> dict[str, Any]:
        """For a file of figures."""
        return {"noise_rms": self.noise, "chi2_per_ray": self.per_ray, "noise_from": self.stated}
