import numpy as np
import pytest

from nid_dist.measurements.noise import Dose


def test_no_noise() -> None:
    sinogram = np.linspace(0, 1, 5)
    assert Dose().measure(sinogram, np.random.default_rng(0)) is sinogram
    assert Dose().deviation(sinogram).tolist() == [0] * 5
    assert Dose().label == "clean"


def test_deviation_of_counts() -> None:
    """To first order the logarithm of n counts scatters by 1 / sqrt(n), and electronics add in squares."""
    for dose in (Dose(1e4, 2.0), Dose(1e4, 2.0, electronic=60.0)):
        sinogram = np.full(200_000, 0.6, dtype=np.float32)
        found = dose.measure(sinogram, np.random.default_rng(1))
        counts = 1e4 * np.exp(-1.2)
        expected = np.sqrt(counts + dose.electronic**2) / counts / 2
        assert found.dtype == np.float32
        assert found.std() == pytest.approx(expected, rel=0.02)
        assert found.mean() == pytest.approx(0.6, abs=2e-3)
        assert dose.deviation(sinogram)[0] == pytest.approx(expected, rel=1e-5)


def test_a_bin_without_photons_is_finite() -> None:
    found = Dose(2.0, 5.0).measure(np.full(100, 3.0), np.random.default_rng(0))
    assert np.isfinite(found).all() and found.max() == pytest.approx(np.log(2) / 5)


def test_label() -> None:
    assert Dose(1e4).label == "1e4 photons" and Dose(2.5e5).label == "2e5 photons"
