"""Normals of a body that is known, spoiled in every way; what is turned, and what is said."""

import warnings

import numpy as np
import pytest

from nid_dist.errors import DoubtfulMeaning
from nid_dist.tasks.shapes.furniture import solid_mesh
from nid_dist.tasks.shapes.orientation import orient
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.signals import ProceduralShapes


def ball(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    normals = np.random.default_rng(0).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return 0.8 * normals, normals


def box(count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a box of sides 1.6, 1.2 and 0.8."""
    generator = np.random.default_rng(1)
    half, axis = np.array([0.8, 0.6, 0.4]), generator.choice(3, count, p=[0.23, 0.31, 0.46])
    sign = generator.choice([-1.0, 1.0], count)
    points = generator.uniform(-1, 1, (count, 3)) * half
    points[np.arange(count), axis] = sign * half[axis]
    normals = np.zeros((count, 3))
    normals[np.arange(count), axis] = sign
    return points, normals


def spoiled(points: np.ndarray, normals: np.ndarray, kind: str) -> np.ndarray:
    generator = np.random.default_rng(2)
    into = {
        "right": np.zeros(len(points), bool),
        "inward": np.ones(len(points), bool),
        "half": points[:, 0] > 0,
        "up": normals[:, 2] < 0,
        "towards a scanner": np.einsum("pc,pc->p", normals, np.array([3.0, 3, 3]) - points) < 0,
        "half at random": generator.random(len(points)) < 0.5,
        "a quarter at random": generator.random(len(points)) < 0.25,
        "most": generator.random(len(points)) < 0.8,
    }[kind]
    return np.where(into[:, None], -1.0, 1.0) * normals


KINDS = ["inward", "half", "up", "towards a scanner", "half at random", "a quarter at random", "most"]


@pytest.mark.parametrize("body", [ball, box])
@pytest.mark.parametrize("kind", KINDS)
def test_what_points_inwards_is_turned_and_said(body: "object", kind: str) -> None:
    points, normals = body()  # type: ignore[operator]
    given = spoiled(points, normals, kind)
    share = (np.einsum("pc,pc->p", given, normals) < 0).mean()
    with pytest.warns(DoubtfulMeaning, match="a.ply: .* point into the shape") as said:
        found = orient(Cloud(points, given), "a.ply")
    assert found.normals is not None
    assert (np.einsum("pc,pc->p", found.normals, normals) > 0).mean() > 0.99
    assert f"{share:.0%}" in str(said[0].message) or share > 0.2


@pytest.mark.parametrize("seed", range(4))
def test_right_normals_are_left_as_they_are(seed: int) -> None:
    clouds = [ball(), box()]
    mesh = solid_mesh(ProceduralShapes(4, ["chair", "table"], seed).solid(seed))
    generator = np.random.default_rng(seed)
    points, face = mesh.sample(4000, generator)
    clouds.append((0.9 * points, mesh.normals[face]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for places, normals in clouds:
            found = orient(Cloud(places, normals), "a.ply")
            np.testing.assert_array_equal(found.normals, normals)
        assert orient(Cloud(points), "a.ply").normals is None


def test_normals_of_thin_sheets_that_are_mixed_are_left_out() -> None:
    generator = np.random.default_rng(4)
    points = generator.uniform(-0.8, 0.8, (1200, 3))
    points[:, 2] = generator.choice([-0.001, 0.001], 1200)  # too thin to tell one side from the other
    points[:400] = ball(400)[0] * 0.3 + [0, 0, 0.5]
    normals = np.where(points[:, 2:] > 0, 1.0, -1.0) * [0, 0, 1.0]
    normals[:400] = ball(400)[1]
    with pytest.warns(DoubtfulMeaning, match="at 3.% of the points, taken as none"):
        assert orient(Cloud(points, spoiled(points, normals, "half at random")), "a.ply").normals is None
    found = orient(Cloud(points, normals), "a.ply")
    np.testing.assert_array_equal(found.normals, normals)


def test_normals_of_no_surface_and_of_one_side_are_said() -> None:
    points, normals = ball()
    random = np.random.default_rng(3).normal(size=normals.shape)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    with pytest.warns(DoubtfulMeaning, match="as if at random"):
        assert orient(Cloud(points, random), "a.ply").normals is None
    seen = normals[:, 2] > 0.1
    with pytest.warns(DoubtfulMeaning, match="look to one side"):
        found = orient(Cloud(points[seen], normals[seen]), "a.ply")
    np.testing.assert_array_equal(found.normals, normals[seen])
