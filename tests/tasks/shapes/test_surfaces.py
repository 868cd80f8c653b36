"""What a cloud says of f: signs and distances of a sphere, with normals and without; outliers; no points twice."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.surfaces import FitOptions, _alone, _both_halves, measure_cloud

RADIUS, CUT = 0.6, 0.2


def sphere(count: int, normals: bool) -> Cloud:
    directions = np.random.default_rng(0).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Cloud(RADIUS * directions, directions if normals else None)


@pytest.mark.parametrize("normals", [True, False])
def test_values_are_those_of_the_sphere(normals: bool) -> None:
    cloud = sphere(800, normals)
    measured = measure_cloud(cloud, CUT, FitOptions())
    true = np.clip((np.linalg.norm(measured.coords, axis=1) - RADIUS) / CUT, -1, 1)
    assert (measured.values[:800] == 0).all() and np.array_equal(measured.coords[:800], cloud.points)
    # To a sparse cloud it is farther than to the surface; the sign is the same.
    off = measured.values != 0
    assert (np.sign(measured.values) == np.sign(true))[off].all()
    assert np.abs(measured.values - true).mean() < 0.03 and np.abs(measured.values).max() <= 1
    # Inside is known by the normals alone: without, the cloud closes it off.
    assert (measured.values < 0).any() == normals
    steps = measured.coords[800 : 800 + 4 * 800] if normals else cloud.points
    assert np.abs(np.linalg.norm(steps, axis=1) - RADIUS).max() < 0.031


def test_weights_off_the_surface_are_a_share_of_those_on_it() -> None:
    measured = measure_cloud(sphere(300, True), CUT, FitOptions(off_weight=0.5))
    on = 5 * 300
    assert (measured.weights[:on] == 1).all()
    assert measured.weights[on:].sum() == pytest.approx(0.5 * on)


def test_a_mirrored_cloud_halves_the_spacing_only() -> None:
    cloud = Cloud(np.abs(sphere(200, True).points), np.abs(sphere(200, True).points) / RADIUS)
    both = _both_halves(cloud, 0)
    assert len(both.points) == 400 and both.normals is not None
    np.testing.assert_array_equal(both.points[200:], cloud.points * [-1, 1, 1])
    np.testing.assert_allclose(np.linalg.norm(both.points, axis=1), RADIUS)
    assert _both_halves(cloud, None) is cloud
    measured = measure_cloud(cloud, CUT, FitOptions(), both)
    assert np.array_equal(measured.coords[:200], cloud.points)


def test_few_points_will_do() -> None:
    measured = measure_cloud(Cloud(np.array([[0.1, 0, 0], [0.2, 0.1, 0.3]])), CUT, FitOptions())
    assert np.isfinite(measured.values).all() and (measured.values[2:] > 0).all()


def test_points_far_from_all_others_are_left_out() -> None:
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(400, 3))
    sphere *= 0.5 / np.linalg.norm(sphere, axis=1, keepdims=True)
    strays = np.array([[0.9, 0.9, 0.9], [-0.9, 0.9, 0.0], [0.0, 0.0, 0.0]])
    alone = _alone(np.concatenate([sphere, strays]))
    assert alone[-3:].all() and alone[:-3].mean() < 0.02
    assert not _alone(strays).any()
