"""B-splines against SciPy's, and what is made of them against dense matrices."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.detail.detail import Detail
from nid_dist.detail.sparse import SparseRows
from nid_dist.detail.splines import SplineGrid
from nid_dist.measurements.raster import Raster


def dense(grid: SplineGrid, coords: torch.Tensor, along: int | None = None) -> torch.Tensor:
    indices, weights = grid.corners(coords, along)
    return coords.new_zeros(len(coords), grid.size).scatter_add(1, indices, weights)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("along", [None, 0, 1])
def test_splines_are_scipys(degree: int, along: int | None) -> None:
    grid = SplineGrid.covering((5, 3), degree)
    coords = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    bump = BSpline.basis_element(np.arange(degree + 2) - (degree + 1) / 2, extrapolate=False)
    axes = []
    for axis in range(2):
        centre = grid.start[axis] + np.arange(grid.shape[axis]) * grid.step[axis]
        position = (coords.numpy()[:, axis, None] - centre) / grid.step[axis]
        values = bump.derivative()(position) / grid.step[axis] if along == axis else bump(position)
        axes.append(np.nan_to_num(values))
    expected = (axes[0][:, :, None] * axes[1][:, None]).reshape(40, -1)
    assert np.allclose(dense(grid, coords, along).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 2)])
def test_they_add_up_to_one_in_the_cube(degree: int, shape: tuple[int, ...]) -> None:
    corners = coordinate_grid((2,) * len(shape)) * 2  # of the cube itself
    coords = torch.cat([coordinate_grid((7,) * len(shape)), corners])
    ones = torch.ones(SplineGrid.covering(shape, degree).size, 1)
    assert torch.allclose(SplineGrid.covering(shape, degree).evaluate(ones, coords), torch.ones(len(coords), 1))


@pytest.mark.parametrize(("degree", "every"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_on_pixels_they_add_up_to_one_between_the_centres(degree: int, every: int) -> None:
    grid, coords = SplineGrid.on_pixels((6, 9), every, degree), coordinate_grid((6, 9))
    assert torch.allclose(grid.evaluate(torch.ones(grid.size, 1), coords), torch.ones(54, 1), atol=1e-6)


def test_of_degree_one_on_pixels_they_interpolate_as_a_raster_does() -> None:
    image = torch.rand(6, 9, 2)
    coords = torch.rand(50, 2) * 2.4 - 1.2
    found = SplineGrid.on_pixels((6, 9)).evaluate(image.flatten(0, 1), coords)
    assert torch.allclose(found, Raster(image)(coords), atol=1e-5)


@pytest.mark.parametrize("wrong", [{"degree": 4}, {"shape": (0, 2)}, {"step": (1.0,)}, {"step": (1.0, 0.0)}])
def test_what_is_no_grid_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="B-splines|no grid"):
        replace(SplineGrid((0.0, 0.0), (1.0, 1.0), (2, 2), 1), **wrong)


def test_sparse_rows_are_their_matrix() -> None:
    entry = torch.Generator().manual_seed(0)
    matrix = torch.randn(7, 5, dtype=torch.float64, generator=entry)
    matrix[torch.rand(7, 5, generator=entry) < 0.5] = 0
    row, column = matrix.nonzero(as_tuple=True)
    order = torch.randperm(len(row), generator=entry)
    sparse = SparseRows.of(row[order], column[order], matrix[row, column][order], (7, 5))
    for count in (1, 3):
        c, y = torch.randn(count, 5).double(), torch.randn(count, 7).double()
        assert torch.allclose(sparse(c), c @ matrix.t())
        assert torch.allclose(sparse.transposed(y), y @ matrix)
        assert torch.allclose(sparse.transposed.squared(y), y @ matrix.square())


def test_detail_is_the_sum_over_its_grids_of_each_signal() -> None:
    grids = (SplineGrid.covering((2, 2)), SplineGrid.covering((4, 4)))
    detail = Detail(grids, torch.randn(3, sum(grid.size for grid in grids), 2))
    coords = torch.rand(3, 10, 2) * 2 - 1
    matrices = [torch.cat([dense(grid, each) for grid in grids], 1) for each in coords]
    expected = torch.stack([matrix @ values for matrix, values in zip(matrices, detail.values, strict=True)])
    assert torch.allclose(detail(coords), expected, atol=1e-5)
    assert torch.allclose(detail(coords[0]), torch.stack([matrices[0] @ each for each in detail.values]), atol=1e-5)
    shared = Detail(grids, detail.values[:1])
    assert torch.allclose(shared(coords)[2], matrices[2] @ detail.values[0], atol=1e-5)
    assert shared.rows(slice(1, 3)) is shared
