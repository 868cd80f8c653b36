"""Pictures of meshes: where a surface is seen, and which side of it."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.meshing import extract_surface
from nid_dist.tasks.shapes.rendering import render_mesh, render_points, two_sides


def test_a_sphere_is_a_disc_of_its_radius() -> None:
    mesh = extract_surface(lambda points: np.linalg.norm(points, axis=1) - 0.75, 32, 1.0)
    picture = render_mesh(mesh, 30.0, 20.0, 64)
    drawn = (picture != 1).any(2)
    # The picture shows 1.5 to either side: a disc of a quarter of its width, without holes.
    assert drawn.mean() == pytest.approx(np.pi / 16, rel=0.08)
    rows, columns = np.mgrid[0:64, 0:64] - 31.5
    assert drawn[np.hypot(rows, columns) < 14].all()
    # Lit from above.
    assert picture[18:26, 28:36].mean() > picture[38:46, 28:36].mean()


def test_the_near_side_hides_the_far_one() -> None:
    def plates(points: np.ndarray) -> np.ndarray:
        big = np.abs(points - [0, 0, -0.5]) - [0.8, 0.8, 0.1]
        small = np.abs(points - [0, 0, 0.5]) - [0.2, 0.2, 0.1]
        return np.minimum(big.max(1), small.max(1))

    mesh = extract_surface(plates, 32, 1.0)
    from_front, from_behind = ((render_mesh(mesh, turn, 0.0, 64) != 1).any(2).sum() for turn in (0.0, 180.0))
    assert from_front == pytest.approx(from_behind, rel=0.05)


def test_nothing_and_points() -> None:
    assert (two_sides(None, 32) == 1).all() and two_sides(None, 32).shape == (32, 64, 3)
    picture = render_points(np.array([[0.0, 0.75, 0.0]]), 0.0, 0.0, 64)
    rows, _ = np.nonzero((picture != 1).any(2))
    assert rows.mean() == pytest.approx(16, abs=1)
