import numpy as np
import pytest

from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.config import PhantomsSection
from nid_dist.tasks.ct.volumes import Ellipsoid, neighbouring_slice, random_volume, slice_of
from nid_dist.tasks.images.sources import list_images
from tests.tiny_ct import phantom_values


def test_a_ball_by_hand() -> None:
    """Radius 0.5 about (0.1, 0.2, 0.3): at height 0.6 a disc of radius 0.4; above 0.8 there is nothing."""
    ball = Ellipsoid(2.0, np.array([0.1, 0.2, 0.3]), np.eye(3) / 0.25)
    section = ball.section(0.6)
    assert section is not None and section[:5].tolist() == pytest.approx([2, 0.4, 0.4, 0.1, 0.2])
    assert ball.section(0.81) is None and len(slice_of([ball], 0.81).ellipses) == 0
    assert not slice_of([ball], 0.81).sinogram(Geometry.even(3, 5)).any()


def test_a_slice_is_the_volume_at_its_height() -> None:
    volume = random_volume(np.random.default_rng(3))
    points = np.random.default_rng(4).uniform(-1, 1, (500, 2))
    for height in (-0.4, 0.1, 0.7):
        # A point (row, column) is at x = column, y = -row.
        places = np.stack([points[:, 1], -points[:, 0], np.full(500, height)], 1)
        expected = np.zeros(500)
        for each in volume:
            away = places - each.centre
            expected += each.density * (np.einsum("pi,ij,pj->p", away, each.shape, away) <= 1)
        np.testing.assert_allclose(phantom_values(slice_of(volume, height), points), expected, atol=1e-12)


def test_neighbours_look_alike_and_values_are_those_of_images() -> None:
    images = np.stack([neighbouring_slice(index, 40, 1).image(33) for index in range(10, 30)])
    assert images.min() > -0.1 and images.max() < 1.1
    steps = [np.square(images[distance:] - images[:-distance]).mean() for distance in (1, 3, 9)]
    assert steps[0] < 0.5 * steps[1] < 0.25 * steps[2]
    other = neighbouring_slice(50, 40, 1).image(33)  # as high, in the next volume
    assert np.square(other - images[0]).mean() > 4 * steps[0]


def test_the_source() -> None:
    section = PhantomsSection(
        source="phantoms", phantoms=20, slices=20, size=17, patch=None, colour="grey", test=["phantom-????2"]
    )
    refs = list_images(section)
    assert [ref.name for ref in refs["test"]] == ["phantom-00002", "phantom-00012"] and len(refs["train"]) == 18
    assert refs["test"][1].phantom is not None
    np.testing.assert_array_equal(refs["test"][1].phantom().ellipses, neighbouring_slice(12, 20, 0).ellipses)
