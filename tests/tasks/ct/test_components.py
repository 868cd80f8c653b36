"""Against the Gaussian's conditional mean in pixels, and slices that the components hold."""

import numpy as np

from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.tasks.ct.classical import image_matrix
from nid_dist.tasks.ct.components import Components, Scanned

GEOMETRY = Geometry.even(3, 9)
SLICES = np.random.default_rng(0).random((6, 9, 9))


def test_components_have_the_covariance_of_the_slices() -> None:
    known = Components.of(SLICES)
    flat = known.components.reshape(5, 81)
    np.testing.assert_allclose(flat.T @ flat, np.cov(SLICES.reshape(6, 81).T, bias=True), atol=1e-12)
    assert (np.diff(np.square(flat).sum(1)) < 0).all()


def test_it_is_the_conditional_mean() -> None:
    known, matrix = Components.of(SLICES), image_matrix(GEOMETRY, 9, lines=1).toarray()
    measured = np.random.default_rng(1).random(27)
    found = Scanned(known, GEOMETRY, Dose()).reconstruct(measured, 3, 0.2)
    parts = known.components[:3].reshape(3, 81)
    mean, spread = known.mean.reshape(-1), parts.T @ parts
    gain = spread @ matrix.T @ np.linalg.inv(matrix @ spread @ matrix.T + 0.04 * np.eye(27))
    np.testing.assert_allclose(found.reshape(-1), mean + gain @ (measured - matrix @ mean), atol=1e-10)


def test_a_slice_that_they_hold_is_found_in_a_clean_scan() -> None:
    known, matrix = Components.of(SLICES), image_matrix(GEOMETRY, 9, lines=1)
    found = Scanned(known, GEOMETRY, Dose()).reconstruct(matrix @ SLICES[2].reshape(-1), 5, 1e-6)
    np.testing.assert_allclose(found, SLICES[2], atol=1e-4)


def test_a_dose_counts_as_noise() -> None:
    known, dose = Components.of(SLICES), Dose(100.0, 1.0)
    measured = image_matrix(GEOMETRY, 9, lines=1) @ SLICES[1].reshape(-1)
    both = Scanned(known, GEOMETRY, dose).reconstruct(measured, 5, 0.1)
    noise = np.sqrt(np.square(dose.deviation(measured)).mean() + 0.01)
    np.testing.assert_allclose(both, Scanned(known, GEOMETRY, Dose()).reconstruct(measured, 5, noise))
