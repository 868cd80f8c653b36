"""Metrics of spheres and boxes, whose distances are known in closed form."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.meshing import extract_surface
from nid_dist.tasks.shapes.metrics import compare_meshes, volumetric_iou

BOX = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([corners for a, b, c, d in QUADS for corners in ((a, b, c), (a, c, d))])


def box(scale: float = 1.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    return Mesh(scale * BOX + np.array(shift), FACES.astype(np.int64))


def sphere(radius: float) -> Mesh:
    mesh = extract_surface(lambda points: np.linalg.norm(points, axis=1) - radius, 96, 1.0)
    assert mesh is not None
    return mesh


def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_equal_meshes() -> None:
    metrics = compare_meshes(box(), box(), draw(), 2000)
    assert metrics.chamfer == pytest.approx(0, abs=1e-7) and metrics.hausdorff == pytest.approx(0, abs=1e-6)
    assert metrics.f_score == 1 and metrics.normals == pytest.approx(1)


def test_concentric_spheres() -> None:
    metrics = compare_meshes(sphere(0.5), sphere(0.6), draw(), 4000)
    for value in (metrics.chamfer, metrics.accuracy, metrics.completeness, metrics.hausdorff):
        assert value == pytest.approx(0.1, abs=1e-3)
    assert metrics.normals == pytest.approx(1, abs=2e-3) and metrics.f_score == 0
    assert compare_meshes(sphere(0.5), sphere(0.6), draw(), 4000, threshold=0.11).f_score == 1


def test_a_box_within_a_box() -> None:
    """Unit box and the one of twice its side about the same centre, by hand."""
    inner, outer = box(), box(2.0, (-0.5, -0.5, -0.5))
    metrics = compare_meshes(inner, outer, draw(), 20_000)
    assert metrics.accuracy == pytest.approx(0.5, abs=1e-6)  # every point of the inner one is half a unit inside
    assert metrics.hausdorff == pytest.approx(0.75**0.5, abs=0.02)  # from a corner of the outer one
    # From the plane of a face of the outer box: |(1/2, max(|x| - 1/2, 0), max(|y| - 1/2, 0))|, x, y uniform in [-1, 1].
    x, y = np.maximum(np.abs(np.meshgrid(*[(np.arange(400) + 0.5) / 200 - 1] * 2)) - 0.5, 0)
    assert metrics.completeness == pytest.approx(np.sqrt(0.25 + x**2 + y**2).mean(), rel=0.01)


def test_a_shifted_box_has_half_its_volume_in_common() -> None:
    points = np.random.default_rng(1).uniform(0, 2, (50_000, 3))
    one, other = (points < 1).all(1), (np.abs(points - [1.0, 0.5, 0.5]) < 0.5).all(1)
    assert volumetric_iou(one, other) == pytest.approx(1 / 3, abs=0.02)
    assert volumetric_iou(one, one) == 1 and volumetric_iou(one & ~one, one & ~one) == 1
