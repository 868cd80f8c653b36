import math

import numpy as np
import pytest

from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.phantoms import Phantom, named_phantom, phantom_names, shepp_logan
from tests.tiny_ct import phantom_values


def grid(side: int) -> np.ndarray:
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def test_a_disc_by_hand() -> None:
    """Density 2, radius 0.5, centre (0.2, 0.1): chords 2 * 2 sqrt(0.25 - d^2), at distance d from the centre."""
    disc = Phantom(np.array([[2.0, 0.5, 0.5, 0.2, 0.1, 0.3]]))
    geometry = Geometry(np.deg2rad([0.0, 90.0]), 5, 2.0)
    distances = np.concatenate([geometry.positions - 0.2, geometry.positions - 0.1])
    assert np.allclose(disc.integrals(geometry), 4 * np.sqrt(np.clip(0.25 - distances**2, 0, None)))
    assert phantom_values(disc, np.array([[-0.1, 0.2], [0.1, 0.2], [-0.7, 0.2]])).tolist() == [2, 2, 0]


def test_an_ellipse_along_its_axes() -> None:
    """Seen along its long axis through the centre, an ellipse is as long as that."""
    turn = 0.4
    ellipse = Phantom(np.array([[1.0, 0.3, 0.8, 0.0, 0.0, turn]]))
    assert ellipse.integrals(Geometry(np.array([turn, turn + math.pi / 2]), 1)).tolist() == pytest.approx([1.6, 0.6])


@pytest.mark.parametrize("source", [None, 3.0])
def test_a_bin_measures_the_mean_over_its_width(source: float | None) -> None:
    phantom, geometry = named_phantom("phantom-00007", 3), Geometry.even(5, 9, source)
    lines = phantom.integrals(geometry.finer(2000 if source is None else 4)).reshape(45, -1).mean(1)
    assert np.allclose(phantom.sinogram(geometry), lines, atol=1e-5)


def test_every_view_holds_the_whole_mass() -> None:
    phantom, geometry = named_phantom("phantom-00001", 0), Geometry.even(6, 31)
    masses = phantom.sinogram(geometry).reshape(6, 31).sum(1) * geometry.pitch
    expected = sum(density * math.pi * a * b for density, a, b, *_ in phantom.ellipses)
    assert np.allclose(masses, expected)


def test_image_is_the_mean_of_values() -> None:
    phantom = named_phantom("phantom-00002", 0)
    fine = phantom_values(phantom, grid(36)).reshape(9, 4, 9, 4).mean((1, 3))
    assert np.allclose(phantom.image(9), fine)


def test_the_standard_phantom() -> None:
    phantom = shepp_logan()
    # Outside, skull, brain, the left ventricle, the large disc: Toft's grey levels.
    points = np.array([[0.0, 0.8], [-0.9, 0.0], [0.8, 0.0], [0.0, -0.22], [-0.5, 0.0]])
    assert phantom_values(phantom, points).tolist() == pytest.approx([0, 1, 0.2, 0, 0.3])


def test_random_phantoms() -> None:
    phantoms = [named_phantom(name, 5) for name in phantom_names(12)]
    images = np.stack([phantom.image(33) for phantom in phantoms])
    assert images.min() >= -0.02 and images.max() <= 1.02
    rows, columns = grid(33)[:, 0], grid(33)[:, 1]
    assert np.abs(images.reshape(13, -1)[:, np.hypot(rows, columns) > 1]).max() == 0
    assert len({image.tobytes() for image in images}) == 13
    again = named_phantom("phantom-00004", 5).ellipses
    assert np.array_equal(again, phantoms[5].ellipses)
    assert not np.array_equal(again[:2], named_phantom("phantom-00004", 6).ellipses[:2])
