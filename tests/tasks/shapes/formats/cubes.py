"""A cube that meshes of every format say, and what is measured of them."""

from pathlib import Path

import numpy as np
import pytest

from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.mesh_reading import read_mesh

# A cube of side 1 at the origin, its quads counter-clockwise from outside.
CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = [corner for a, b, c, d in QUADS for corner in ((a, b, c), (a, c, d))]
# Around the cube once, then its two ends: a triangle strip is turned at every second triangle.
STRIP = [0, 1, 2, 3, 6, 7, 4, 5, 0, 1, -1, 1, 5, 3, 7, -1, 0, 2, 4, 6]


def volume(mesh: Mesh) -> float:
    """By the divergence theorem: a sixth of the sum of the corners' triple products."""
    a, b, c = mesh.corners.transpose(1, 0, 2)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def check(path: Path, area: float, inside: float, low: tuple, high: tuple) -> Mesh:
    mesh = read_mesh(path)
    assert mesh.areas.sum() == pytest.approx(area, rel=1e-6)
    assert volume(mesh) == pytest.approx(inside, rel=1e-6)
    np.testing.assert_allclose(mesh.vertices.min(0), low, atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(0), high, atol=1e-6)
    return mesh


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
