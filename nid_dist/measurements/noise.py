"""What a scanner's dose does to a sinogram: photons are counted, and counts scatter."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Dose:
    """A stated dose."""

    # That a detector bin counts per view where nothing is in the way; None: infinitely many
    photons: float | None = None
    # Of value 1, in nepers per radius of the disc: photons exp(-attenuation * integral) arrive
    attenuation: float = 2.0
    electronic: float = 0.0  # standard deviation of the Gaussian noise of a detector's electronics, in photons

    @property
    def label(self) -> str:
        """In tables: clean, or 1e4 photons."""
        if self.photons is None:
            return "clean"
        mantissa, exponent = f"{self.photons:.0e}".split("e")
        return f"{mantissa}e{int(exponent)} photons"

    def measure(
        self, sinogram: Float[np.ndarray, "*lines"], generator: np.random.Generator
    ) -> Float[np.ndarray, "*lines"]:
        """The sinogram as a scanner of this dose finds it: Poisson counts, Gaussian electronics, and the logarithm.

        Integrals are in units of value times radius; a bin that counts nothing reads as one photon.
        """
        if self.photons is None:
            return sinogram
        counts = generator.poisson(self.photons * np.exp(-self.attenuation * sinogram)).astype(np.float64)
        counts += self.electronic * generator.standard_normal(counts.shape)
        found: np.ndarray = -np.log(np.maximum(counts, 1.0) / self.photons) / self.attenuation
        return found.astype(sinogram.dtype)

    def deviation(self, sinogram: Float[np.ndarray, "*lines"]) -> Float[np.ndarray, "*lines"]:
        """Standard deviation of each measured integral, to first order, from itself; 0 without noise."""
        if self.photons is None:
            return np.zeros_like(sinogram)
        counts = np.maximum(self.photons * np.exp(-self.attenuation * sinogram), 1.0)
        found: np.ndarray = np.sqrt(counts + self.electronic**2) / counts / self.attenuation
        return found.astype(sinogram.dtype)


def white_noise(sinogram: Float[np.ndarray, "V B"]) -> float:
    """The standard deviation of independent noise that a sinogram says it has; 0 of fewer than four bins.

    From the median of its third differences along the detector, to which what is scanned adds little: at edges, few of
    them.
    """
    if sinogram.shape[1] < 4:
        return 0.0
    differences = np.abs(np.diff(sinogram.astype(np.float64), 3, axis=1))
    # Third differences of unit noise have variance 1 + 9 + 9 + 1; the median of a standard normal's size is 0.6745.
    return float(np.median(differences)) / math.sqrt(20) / 0.6745
