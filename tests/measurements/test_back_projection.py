import numpy as np
import pytest
from skimage.transform import iradon

from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.back_projection import BackProjection, arcs, ramp
from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.phantoms import shepp_logan


@pytest.mark.parametrize("source", [None, 2.0, 6.0])
def test_the_standard_phantom_from_many_views(source: float | None) -> None:
    geometry = Geometry.even(120, 65, source)
    both = np.stack([shepp_logan().sinogram(geometry), 2 * shepp_logan().sinogram(geometry)])
    found, whole = BackProjection(geometry, 65)(both), shepp_logan().image(65)
    assert psnr(found[0], whole) > 25
    assert np.allclose(found[1], 2 * found[0])
    # Nothing is lost: the mean is the phantom's.
    assert found[0].mean() == pytest.approx(whole.mean(), rel=0.03)


def test_as_scikit_image_does() -> None:
    geometry = Geometry.even(24, 33)
    sinogram = shepp_logan().sinogram(geometry)
    pixels = sinogram.reshape(24, 33).T * 33 / 2
    theirs = iradon(pixels, np.rad2deg(geometry.angles), filter_name="ramp", circle=True)
    ours = BackProjection(geometry, 33)(sinogram[None])[0]
    # They differ in what they read at the disc's border.
    axis = (np.arange(33) - 16) / 16.5
    inner = np.hypot(axis[:, None], axis[None]) < 0.9
    assert np.abs(ours - theirs)[inner].max() < 1e-6


def test_ramp_by_hand() -> None:
    assert ramp(3, 8).tolist() == pytest.approx([0.25, -1 / np.pi**2, 0, 0, 0, 0, 0, -1 / np.pi**2])


def test_arcs() -> None:
    assert np.allclose(arcs(Geometry.even(5, 3)), np.pi / 5)
    assert np.allclose(arcs(Geometry.even(5, 3, 2.0)), np.pi / 5)
    # Four views over a quarter of half a turn: what was not scanned belongs to none of them.
    limited = Geometry(np.deg2rad([0.0, 10.0, 20.0, 30.0]), 3)
    assert np.rad2deg(arcs(limited)).tolist() == pytest.approx([15, 10, 10, 15])
