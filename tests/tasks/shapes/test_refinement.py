"""Detail of a cloud: the same as dense least squares; finer grids near the points alone; pieces without points."""

import numpy as np
import pytest
import torch

from nid_dist.tasks.shapes.mesh import Mesh
from nid_dist.tasks.shapes.meshing import extract_surface, supported
from nid_dist.tasks.shapes.point_clouds import Cloud
from nid_dist.tasks.shapes.refinement import Told, refine
from nid_dist.tasks.shapes.surfaces import thin


def told(points: np.ndarray, normals: np.ndarray) -> Told:
    count = len(points)
    at = torch.from_numpy(points)
    return Told(
        at,
        torch.zeros(count, dtype=at.dtype),
        torch.full((count,), 1 / count, dtype=at.dtype),
        torch.from_numpy(normals),
        torch.full((count,), 0.01 / count, dtype=at.dtype),
    )


def sphere(count: int) -> tuple[np.ndarray, np.ndarray]:
    directions = np.random.default_rng(0).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return 0.6 * directions, directions


def test_one_grid_is_dense_least_squares() -> None:
    points, normals = sphere(40)
    cells, roughness = 4, 1e-2
    step, nodes = 2 / cells, np.stack(np.meshgrid(*[np.linspace(-1, 1, cells + 1)] * 3, indexing="ij"), -1)
    hats = np.maximum(0, 1 - np.abs(points[:, None, None, None] - nodes) / step)
    signs = np.where(hats > 0, np.sign(nodes - points[:, None, None, None]), 0) / step
    rows, target = [hats.prod(-1).reshape(40, -1)], [np.zeros(40)]
    for axis in range(3):
        parts = np.where(np.arange(3) == axis, signs, hats).prod(-1)
        rows.append(0.1 * parts.reshape(40, -1))
        target.append(0.1 * normals[:, axis])
    # Beyond the cube there is no detail: second differences over a grid with a border of zeros.
    wide = np.pad(np.arange((cells + 1) ** 3).reshape((cells + 1,) * 3), 3, constant_values=-1)
    units, differences = np.eye(3, dtype=int), []
    for centre in np.ndindex(*[side - 2 for side in wide.shape]):
        c = np.array(centre) + 1
        for a in range(3):
            differences.append([(c - units[a], 1.0), (c, -2.0), (c + units[a], 1.0)])
            for b in range(a):
                both = [(c, 1.0), (c + units[a], -1.0), (c + units[b], -1.0), (c + units[a] + units[b], 1.0)]
                differences.append([(at, 2**0.5 * factor) for at, factor in both])
    rough = np.zeros((len(differences), (cells + 1) ** 3))
    for row, parts in enumerate(differences):
        for at, factor in parts:
            if wide[tuple(at)] >= 0:
                rough[row, wide[tuple(at)]] += factor
    scale = np.sqrt(1 / 40)
    system = np.concatenate([scale * np.concatenate(rows), np.sqrt(roughness / step) * rough])
    right = np.concatenate([scale * np.concatenate(target), np.zeros(len(rough))])
    expected = np.linalg.lstsq(system, right, rcond=None)[0]
    found = refine(told(points, normals), (cells,), roughness)
    np.testing.assert_allclose(found.detail.values[0, :, 0], expected, atol=1e-2 * np.abs(expected).max())
    assert found.residual <= 3e-3 and found.iterations <= 80


def test_finer_grids_reach_the_sphere_and_lie_near_it() -> None:
    points, normals = sphere(600)
    coarse = refine(told(points, normals), (8, 16), 1e-6)
    fine = refine(told(points, normals), (32,), 1e-6, start=coarse.detail)
    assert fine.detail.grids[:2] == coarse.detail.grids
    directions = -sphere(2000)[1]

    def off(each: torch.Tensor) -> float:
        return float(each.abs().mean())

    on = torch.from_numpy(0.6 * directions)
    assert off(fine.detail(on)) < 0.01 and off(fine.detail(on)) < off(coarse.detail(on))
    own = fine.detail.values[0, -(33**3) :, 0]
    at = fine.detail.grids[-1].centres()[own != 0]
    assert (at.norm(dim=1) - 0.6).abs().max() < 4 * (2 / 32) * 3**0.5
    mesh = extract_surface(lambda p: fine.detail(torch.from_numpy(p))[0, :, 0].numpy(), 32, 1.0)
    assert mesh is not None
    kept = supported(mesh, points)
    assert np.abs(np.linalg.norm(kept.vertices[kept.faces.ravel()], axis=1) - 0.6).max() < 0.02


@pytest.mark.parametrize("kind", ["one spot", "contradiction", "one point"])
def test_points_that_say_nothing_are_no_singular_matrix(kind: str) -> None:
    points, normals = sphere(20)
    if kind == "one spot":
        points = np.full_like(points, 0.3)
    elif kind == "contradiction":
        points, normals = np.repeat(points, 2, 0), np.concatenate([normals, -normals])[np.arange(40) % 20]
    else:
        points, normals = points[:1], normals[:1]
    found = refine(told(points, normals), (8, 16), 1e-5)
    assert bool(torch.isfinite(found.detail.values).all()) and found.iterations <= 160


def test_pieces_without_points_are_left_out() -> None:
    def ball(centre: float, radius: float) -> Mesh:
        middle = np.array([centre, 0, 0])
        found = extract_surface(lambda p: np.linalg.norm(p - middle, axis=1) - radius, 32, 1.0)
        assert found is not None
        return found

    shape, drop, bubble = ball(-0.3, 0.4), ball(0.6, 0.15), ball(-0.3, 0.1)
    points = shape.sample(300, np.random.default_rng(0))[0]
    kept = supported(Mesh.joined([shape, drop, bubble]), points)
    assert kept.areas.sum() == pytest.approx(shape.areas.sum())
    # Two of them each belong to the cloud.
    points = np.concatenate([points, drop.sample(40, np.random.default_rng(0))[0]])
    both = supported(Mesh.joined([shape, drop, bubble]), points)
    assert both.areas.sum() == pytest.approx(shape.areas.sum() + drop.areas.sum())


def test_very_many_points_are_taken_together_side_by_side() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-0.5, 0.5, (60_000, 2)), rng.choice([-1e-3, 1e-3], (60_000, 1))], 1)
    normals = np.stack([np.zeros(60_000), np.zeros(60_000), np.sign(points[:, 2])], 1)
    few, where, counts = thin(Cloud(points, normals))
    assert len(few.points) < 40_000 and counts.sum() == 60_000 and where.shape == (60_000,)
    assert few.normals is not None
    np.testing.assert_allclose(few.normals[where], normals)
    np.testing.assert_allclose(few.points[where][:, 2], points[:, 2])
    assert np.abs(few.points[where] - points).max() < 2 / 255
    assert thin(Cloud(points[:100], normals[:100]))[0].points is not None
