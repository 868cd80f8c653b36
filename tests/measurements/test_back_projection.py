import numpy as np
import pytest
import torch
from skimage.transform import iradon

from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.back_projection import BackProjection, arcs, ramp
from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.phantoms import shepp_logan


@pytest.mark.parametrize("source", [None, 2.0, 6.0])
def test_the_standard_phantom_from_many_views(source: float | None) -> None:
    geometry = Geometry.even(120, 65, source)
    both = np.stack([shepp_logan().sinogram(geometry), 2 * shepp_logan().sinogram(geometry)])
    found, whole = BackProjection(geometry, 65)(torch.from_numpy(both)).numpy(), shepp_logan().image(65)
    assert psnr(found[0], whole) > 25
    assert np.allclose(found[1], 2 * found[0])
    # Nothing is lost: the mean is the phantom's.
    assert found[0].mean() == pytest.approx(whole.mean(), rel=0.03)


def test_as_scikit_image_does() -> None:
    geometry = Geometry.even(24, 33)
    sinogram = shepp_logan().sinogram(geometry)
    pixels = sinogram.reshape(24, 33).T * 33 / 2
    theirs = iradon(pixels, np.rad2deg(geometry.angles), filter_name="ramp", circle=True)
    ours = BackProjection(geometry, 33)(torch.from_numpy(sinogram)[None])[0].numpy()
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


@pytest.mark.parametrize("source", [None, 2.0])
def test_as_the_formula_says(source: float | None) -> None:
    """Filtered by a convolution and read between the bins pixel by pixel, in float64 and in float32."""
    geometry = Geometry.even(7, 12, source)
    sinogram = np.random.default_rng(0).normal(size=(2, 7, 12))
    kernel, places, side = ramp(12, 32), geometry.positions, 9
    cosines = np.ones(12) if source is None else source / np.hypot(source, places)
    taps = np.array([[kernel[abs(one - other)] for other in range(12)] for one in range(12)]) / geometry.pitch
    filtered = (sinogram * cosines) @ taps
    expected = np.zeros((2, side, side))
    for row in range(side):
        for column in range(side):
            x, y = ((2 * index + 1) / side - 1 for index in (column, row))
            if np.hypot(x, y) > 1:
                continue
            for view, angle in enumerate(geometry.angles):
                across, depth = x * np.cos(angle) - y * np.sin(angle), 1.0
                if source is not None:
                    depth = 1 - (x * np.sin(angle) + y * np.cos(angle)) / source
                read = [np.interp(across / depth, places, each, left=0, right=0) for each in filtered[:, view]]
                if abs(across / depth) > places[-1]:  # beyond the outermost bins it falls to 0 within one
                    share = max(0.0, 1 - (abs(across / depth) - places[-1]) / geometry.pitch)
                    read = [share * each[-1 if across > 0 else 0] for each in filtered[:, view]]
                expected[:, row, column] += arcs(geometry)[view] / depth**2 * np.array(read)
    found = BackProjection(geometry, side)
    flat = torch.from_numpy(sinogram).flatten(1)
    np.testing.assert_allclose(found(flat).numpy(), expected, atol=1e-10)
    single = found(flat.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-5 * np.abs(expected).max())
