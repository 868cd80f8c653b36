"""Distances by hand and by brute force, and points that lie on surfaces as area asks for."""

import numpy as np
import pytest

from nid_dist.tasks.shapes.solids import Solid

NO_BOXES = np.zeros((0, 2, 3))
ROOT = np.sqrt(2.0)


def box(centre: list[float], half: list[float]) -> Solid:
    return Solid(np.array([[centre, half]], float), NO_BOXES, np.zeros(0), np.zeros(0, bool))


def rod(end: list[float], other: list[float], radius: float, rounded: bool) -> Solid:
    return Solid(NO_BOXES, np.array([[end, other]], float), np.array([float(radius)]), np.array([rounded]))


def union(*solids: Solid) -> Solid:
    return Solid(
        *(np.concatenate([getattr(s, name) for s in solids]) for name in ("boxes", "rods", "radii", "rounded"))
    )


CHAIR = union(
    box([0, 0, 0], [0.5, 0.05, 0.4]),
    box([0, 0.4, -0.35], [0.5, 0.4, 0.05]),
    rod([0, -0.6, 0], [0, 0, 0], 0.06, False),
    rod([-0.3, 0, 0.2], [0.4, 0.5, 0.1], 0.1, True),
)


@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ([1, 2, 3], -1.0),  # the centre: the nearest face is a half side of 1 away
        ([1.5, 2, 3], -0.5),
        ([2, 2, 3], 0.0),
        ([4, 2, 3], 2.0),  # beyond a face
        ([1, 2, 7.5], 1.5),
        ([3, 5, 3], ROOT),  # beyond an edge, by 1 and 1
        ([3, 6, 8], 3.0),  # beyond a corner, by 1, 2 and 2
    ],
)
def test_a_box(point: list[float], distance: float) -> None:
    found = box([1, 2, 3], [1, 2, 3]).distance(np.array([point], float))
    assert found == pytest.approx([distance])


@pytest.mark.parametrize(
    ("point", "cylinder", "capsule"),
    [
        ([0, 1, 0], -0.5, -0.5),  # on the axis, half a radius from the side
        ([0, 1.9, 0], -0.1, -0.5),  # near the end: its disc is closer, but the half sphere lies beyond it
        ([2, 1, 0], 1.5, 1.5),
        ([0, 3, 0], 1.0, 0.5),
        ([0, -1, 0.3], 1.0, np.hypot(1, 0.3) - 0.5),
        ([1.5, 3, 0], ROOT, np.hypot(1.5, 1) - 0.5),  # beyond the rim, by 1 and 1
    ],
)
def test_rods(point: list[float], cylinder: float, capsule: float) -> None:
    for rounded, distance in ((False, cylinder), (True, capsule)):
        found = rod([0, 0, 0], [0, 2, 0], 0.5, rounded).distance(np.array([point], float))
        assert found == pytest.approx([distance])


@pytest.mark.parametrize("rounded", [False, True])
def test_rods_in_any_direction(rounded: bool) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    points = np.random.default_rng(2).uniform(-2, 2, (200, 3))
    ends = np.array([[0.2, -0.5, 0.1], [0.2, 0.8, 0.1]])
    upright = rod(*ends.tolist(), 0.3, rounded).distance(points)
    turned = rod(*(ends @ turn.T).tolist(), 0.3, rounded).distance(points @ turn.T)
    np.testing.assert_allclose(turned, upright, atol=1e-12)


def test_a_union_against_brute_force() -> None:
    surface = CHAIR.surface(20_000, np.random.default_rng(0))
    points = np.random.default_rng(1).uniform(-1, 1, (400, 3))
    nearest = np.min([np.linalg.norm(surface - point, axis=1) for point in points], axis=1)
    found = CHAIR.distance(points)
    inside = np.array([min(part.distance(point[None])[0] for part in parts()) < 0 for point in points])
    assert inside.sum() > 5 and np.array_equal(found < 0, inside)
    # Exact outside, up to the gaps between the sampled points; inside never more than the true distance.
    np.testing.assert_allclose(found[~inside], nearest[~inside], atol=0.03)
    assert (found[~inside] <= nearest[~inside] + 1e-9).all() and (-found[inside] <= nearest[inside] + 1e-9).all()


def parts() -> list[Solid]:
    boxes = [box(*part.tolist()) for part in CHAIR.boxes]
    rods = zip(CHAIR.rods, CHAIR.radii, CHAIR.rounded, strict=True)
    return boxes + [rod(*ends.tolist(), radius, bool(rounded)) for ends, radius, rounded in rods]


def test_surfaces_are_drawn_by_area() -> None:
    generator, count = np.random.default_rng(0), 20_000
    points = box([0, 0, 0], [1, 2, 3]).surface(count, generator)
    on_face = np.isclose(np.abs(points), [1, 2, 3], rtol=0, atol=1e-12)
    assert (on_face.sum(1) == 1).all()
    np.testing.assert_allclose(on_face.mean(0), np.array([6, 3, 2]) / 11, atol=0.02)  # faces of 4 * 6, 4 * 3, 4 * 2
    assert np.abs(points.mean(0)).max() < 0.05
    # Side 2 pi r l = 4 pi, two discs of pi; uniform discs have a mean squared radius of 1/2.
    cylinder = rod([0, -1, 0], [0, 1, 0], 1, False).surface(count, generator)
    capped = np.isclose(np.abs(cylinder[:, 1]), 1)
    assert capped.mean() == pytest.approx(1 / 3, abs=0.02)
    assert np.square(cylinder[capped][:, [0, 2]]).sum(1).mean() == pytest.approx(0.5, abs=0.02)
    # Side 4 pi, a sphere of 4 pi.
    capsule = rod([0, -1, 0], [0, 1, 0], 1, True).surface(count, generator)
    assert (np.abs(capsule[:, 1]) > 1).mean() == pytest.approx(0.5, abs=0.02)
    # Where parts overlap, only what is outside: never a point within another part.
    np.testing.assert_allclose(CHAIR.distance(CHAIR.surface(999, generator)), 0, atol=1e-8)
    assert CHAIR.surface(0, generator).shape == (0, 3)


def test_fitted_to_a_box() -> None:
    points = CHAIR.fitted(0.9).surface(50_000, np.random.default_rng(0))
    low, high = points.min(0), points.max(0)
    np.testing.assert_allclose(low, -high, atol=0.01)
    assert max(high) == pytest.approx(0.9, abs=0.005)
    # A similarity: distances scale with the solid.
    scale = CHAIR.fitted(0.9).radii[0] / 0.06
    middle = CHAIR.fitted(0.9).rods[0, 1] / scale
    some = np.random.default_rng(1).uniform(-1, 1, (50, 3))
    np.testing.assert_allclose(CHAIR.fitted(0.9).distance((some + middle) * scale), scale * CHAIR.distance(some))
