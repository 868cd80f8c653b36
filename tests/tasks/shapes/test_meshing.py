"""Surfaces of fields whose zero level is known: sizes, orientation, how little is evaluated."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.meshing import extract_surface


class Sphere:
    """A signed distance that counts where it is asked for."""

    def __init__(self, radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        self.radius, self.centre, self.asked = radius, np.array(centre), 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.asked += len(points)
        return np.linalg.norm(points - self.centre, axis=1) - self.radius


@pytest.mark.parametrize("side", [20, 32, 64, 96])
def test_a_sphere_has_its_area_and_volume_and_looks_outwards(side: int) -> None:
    mesh = extract_surface(Sphere(0.5), side, 1.0)
    assert mesh is not None
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5).max() < (2 / side) ** 2
    assert mesh.areas.sum() == pytest.approx(4 * np.pi * 0.25, rel=0.05)
    first, second, third = mesh.corners.transpose(1, 0, 2)
    # Positive, as by the divergence theorem the faces look outwards.
    volume = (first * np.cross(second, third)).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.06)


def test_coarse_to_fine_is_the_dense_mesh_with_few_evaluations() -> None:
    few, dense = Sphere(0.31, (0.2, 0.1, -0.3)), Sphere(0.31, (0.2, 0.1, -0.3))
    found, expected = extract_surface(few, 128, 1.0), extract_surface(dense, 128, 1e9)
    assert found is not None and expected is not None
    np.testing.assert_array_equal(found.vertices, expected.vertices)
    assert dense.asked == 129**3 and few.asked < 0.1 * dense.asked


def test_a_thin_part_between_the_coarse_points_is_found() -> None:
    """A plate thinner than a coarse cell, with no coarse point inside."""

    def plate(points: np.ndarray) -> np.ndarray:
        beyond = np.abs(points - [0.0, 0.031, 0.0]) - [0.5, 0.012, 0.5]
        return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(1), 0)

    mesh = extract_surface(plate, 128, 1.0)
    assert mesh is not None
    assert mesh.areas.sum() == pytest.approx(2 * 1.0 + 4 * 0.024, rel=0.08)


def test_no_surface_is_none_and_a_cut_one_is_closed() -> None:
    assert extract_surface(lambda points: np.ones(len(points)), 32, 1.0) is None
    assert extract_surface(lambda points: -np.ones(len(points)), 32, 1.0) is None
    half = extract_surface(lambda points: points[:, 1] - 0.01, 32, 1.0)
    assert half is not None and np.abs(half.vertices).max() <= 1
    first, second, third = half.corners.transpose(1, 0, 2)
    assert (first * np.cross(second, third)).sum() / 6 == pytest.approx(4 * 1.01, rel=1e-3)
