"""Shapes that depend on (seed, index) alone, and points with their distances."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.config import ShapesSection
from nid_dist.tasks.shapes.signals import FAMILIES, ProceduralShapes, ShapeSource, open_shapes

ALL = ("chair", "table", "lamp")


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_shape_depends_on_the_seed_and_its_index_alone() -> None:
    few, many, other = ProceduralShapes(4, ALL, 3), ProceduralShapes(90, ALL, 3), ProceduralShapes(4, ALL, 4)
    points = draw().uniform(-1, 1, (100, 3))
    assert list(few.names) == ["chair-00000", "table-00001", "lamp-00002", "chair-00003"] == list(many.names[:4])
    for index in range(4):
        assert np.array_equal(few.distance(index, points), many.distance(index, points))
        assert not np.allclose(few.distance(index, points), other.distance(index, points))
    assert not np.allclose(few.distance(0, points), few.distance(3, points))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_fill_the_cube_and_stay_inside(family: str) -> None:
    source = ProceduralShapes(25, [family], 0)
    for index in range(25):
        points = source.solid(index).surface(2000, draw())
        assert np.abs(points).max() <= 0.9 + 1e-9 and np.abs(points).max() > 0.8
        inside = source.distance(index, draw(1).uniform(-1, 1, (4000, 3))) < 0
        assert 0 < inside.mean() < 0.5


def test_samples_are_near_the_surface_and_everywhere() -> None:
    source = ProceduralShapes(3, ALL, 0)
    points, distances = source.sample(1, 4000, 0.75, draw())
    assert points.shape == (4000, 3) and np.abs(points).max() <= 1
    assert np.array_equal(distances, source.distance(1, points))
    near, uniform = distances[:3000], points[3000:]
    # Normal noise in three dimensions: a distance of one standard deviation at most, and both signs.
    assert 0.01 < np.abs(near).mean() < 0.04 and 0.2 < (near < 0).mean() < 0.6
    assert np.abs(uniform.mean(0)).max() < 0.08 and uniform.std(0) == pytest.approx([3**-0.5] * 3, abs=0.03)
    again, same = source.sample(1, 4000, 0.75, draw())
    assert np.array_equal(again, points) and np.array_equal(same, distances)
    assert not np.array_equal(source.sample(1, 4000, 0.75, draw(1))[0], points)
    for near_share in (0.0, 1.0):
        assert source.sample(0, 7, near_share, draw())[0].shape == (7, 3)


def test_the_configuration_chooses() -> None:
    source = open_shapes(ShapesSection(source="shapes", shapes=5, families=["lamp", "chair"], shapes_seed=2))
    assert isinstance(source, ShapeSource)
    assert [name.split("-")[0] for name in source.names] == ["lamp", "chair", "lamp", "chair", "lamp"]
    points = draw().uniform(-1, 1, (10, 3))
    assert np.array_equal(source.distance(1, points), ProceduralShapes(9, ["lamp", "chair"], 2).distance(1, points))
