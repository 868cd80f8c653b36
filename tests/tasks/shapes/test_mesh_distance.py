"""Signed distances to meshes that are closed, open, doubled or flipped, against solids in closed form."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.furniture import solid_mesh
from nid_dist.tasks.shapes.mesh import Mesh, Placement
from nid_dist.tasks.shapes.mesh_distance import MeshDistance
from nid_dist.tasks.shapes.signals import ProceduralShapes
from nid_dist.tasks.shapes.solids import Solid


def boxes(*pairs: tuple[list[float], list[float]]) -> Solid:
    none = np.zeros((0, 2, 3))
    return Solid(np.array(pairs), none, np.zeros(0), np.zeros(0, dtype=bool))


CUBE = boxes(([0.0, 0.0, 0.0], [0.5, 0.4, 0.3]))


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_closed_box_is_exact() -> None:
    field = MeshDistance(solid_mesh(CUBE), draw())
    points = draw(1).uniform(-1, 1, (2000, 3))
    np.testing.assert_allclose(field.distance(points), CUBE.distance(points), atol=1e-6)
    assert field.sides.surface.all() and field.sides.open == field.sides.inner == field.sides.flipped == 0
    # Out of the box: every normal points away from its middle.
    assert ((field.sides.points * field.sides.normals).sum(1) > 0).all()


def test_faces_within_the_shape_do_not_bound_it() -> None:
    """Two boxes that overlap: in the middle the surface is 0.4 away, whatever face of the other lies there."""
    both = boxes(([-0.2, 0.0, 0.0], [0.4, 0.4, 0.4]), ([0.3, 0.0, 0.0], [0.4, 0.4, 0.4]))
    field = MeshDistance(solid_mesh(both), draw())
    assert field.sides.inner > 0.05 and len(field.surface.faces) == 20
    assert field.distance(np.array([[0.05, 0.0, 0.0]]))[0] == pytest.approx(-0.4, abs=1e-6)


def test_a_box_without_its_lid_keeps_most_signs() -> None:
    mesh = solid_mesh(CUBE)
    lid = np.isclose(mesh.normals[:, 1], 1)
    field = MeshDistance(mesh.part(~lid), draw())
    points = draw(2).uniform(-1, 1, (4000, 3))
    deep = np.abs(CUBE.distance(points)) > 0.15
    wrong = (field.distance(points) < 0) != (CUBE.distance(points) < 0)
    assert wrong[deep].mean() < 0.02
    # Unsigned lengths are those to the faces that are there, not scaled by winding numbers.
    outside = points[:, 1] < -0.6
    np.testing.assert_allclose(field.distance(points[outside]), CUBE.distance(points[outside]), atol=1e-6)


def test_what_bounds_nothing_is_counted() -> None:
    mesh = solid_mesh(CUBE)
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())
    assert MeshDistance(turned, draw()).sides.flipped > 0.9
    sheet = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]]), np.array([[0, 1, 2]], dtype=np.int64))
    assert MeshDistance(sheet, draw()).sides.open > 0.9
    doubled = Mesh.joined([sheet, Mesh(sheet.vertices, sheet.faces[:, ::-1].copy())])
    assert MeshDistance(doubled, draw()).sides.open > 0.9


def test_points_near_the_surface_have_the_signs_of_their_winding_numbers() -> None:
    solid = ProceduralShapes(1, ["chair"], 3).solid(0)
    field = MeshDistance(solid_mesh(solid), draw())
    points, inside = field.near(4000, (0.05, 0.0158), draw(3))
    assert np.array_equal(inside, field.winding(points) > 0.5)
    assert np.abs(points).max() <= 1 and 0.2 < inside.mean() < 0.6
    distances, gradients = field.nearest(points, inside)
    # Prisms of 24 sides are not quite round.
    outside = ~inside
    np.testing.assert_allclose(distances[outside], solid.distance(points[outside]), atol=2e-3)
    assert 0.01 < np.abs(distances).mean() < 0.04
    ahead = field.distance(points + 1e-4 * gradients) - distances
    assert np.median(np.abs(ahead - 1e-4)) < 1e-6


def test_placement_goes_there_and_back() -> None:
    points = draw().normal(size=(50, 3)) * [3, 1, 2] + [100, -7, 3]
    placement = Placement.around(points)
    inside = placement.to_cube(points)
    assert np.abs(inside).max() == pytest.approx(0.9)
    np.testing.assert_allclose(inside.max(0) + inside.min(0), 0, atol=1e-12)
    np.testing.assert_allclose(placement.to_world(inside), points)


def test_points_of_a_mesh_are_uniform() -> None:
    mesh = solid_mesh(CUBE)
    points, face = mesh.sample(6000, draw())
    np.testing.assert_allclose(CUBE.distance(points), 0, atol=1e-12)
    share = np.bincount(face, minlength=12) / 6000
    np.testing.assert_allclose(share, mesh.areas / mesh.areas.sum(), atol=1e-3)
