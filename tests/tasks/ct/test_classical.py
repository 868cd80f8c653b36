"""Classical reconstruction through scikit-image, in our axes and units."""

import numpy as np
import pytest

from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.classical import Classical, image_matrix
from nid_dist.tasks.ct.phantoms import named_phantom


def test_all_find_the_phantom() -> None:
    """In place, upright and in units of value, which an axis off by half a pixel would spoil."""
    geometry, phantom = Geometry.even(48, 33), named_phantom("phantom-00003", 0)
    classical, sinogram, whole = Classical(geometry, 33), phantom.sinogram(geometry), phantom.image(33)
    assert psnr(classical.fbp(sinogram), whole) > 26
    assert psnr(classical.fbp(sinogram, "hann"), whole) > 20
    assert psnr(classical.sart(sinogram, 20), whole) > 23
    assert psnr(classical.total_variation(sinogram, 3e-3, 60), whole) > 30


def test_total_variation_is_the_best_of_few_views() -> None:
    geometry, phantom = Geometry.even(10, 33), named_phantom("phantom-00004", 0)
    classical, sinogram, whole = Classical(geometry, 33), phantom.sinogram(geometry), phantom.image(33)
    smooth = classical.total_variation(sinogram, 1e-3, 60)
    assert psnr(smooth, whole) > psnr(classical.sart(sinogram, 10), whole) > psnr(classical.fbp(sinogram), whole)
    # The heavier the weight, the less varies.
    varies = [np.abs(np.diff(classical.total_variation(sinogram, weight, 40))).sum() for weight in (1e-4, 1e-3, 1e-2)]
    assert varies[0] > varies[1] > varies[2]


def test_matrix_measures_discs() -> None:
    """The matrix on an image of a disc against its chords."""
    geometry = Geometry.even(4, 31)
    axis = (np.arange(31 * 8) + 0.5) * 2 / (31 * 8) - 1
    disc = (np.hypot(axis[:, None], axis[None]) < 0.7).astype(float).reshape(31, 8, 31, 8).mean((1, 3))
    found = (image_matrix(geometry, 31) @ disc.reshape(-1)).reshape(4, 31)
    exact = 2 * np.sqrt(np.clip(0.49 - geometry.positions**2, 0, None))
    assert np.abs(found - exact)[:, np.abs(geometry.positions) < 0.6].max() < 0.03
    assert found.sum(1) * geometry.pitch == pytest.approx([0.49 * np.pi] * 4, rel=0.01)


@pytest.mark.parametrize(
    ("geometry", "side"),
    [(Geometry.even(4, 32), 32), (Geometry.even(4, 31), 33), (Geometry.even(4, 33, 3.0), 33)],
    ids=["even", "bins", "fan"],
)
def test_refuses_what_scikit_image_has_no_word_for(geometry: Geometry, side: int) -> None:
    with pytest.raises(UserError, match="set signals.size to an odd number"):
        Classical(geometry, side)
