"""Means over areas: against dense samples and the exact integral of a wave."""

import numpy as np
import pytest
import torch

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.measurements.area import Area, area_means
from nid_dist.measurements.sampling import Measurement


def wave(coords: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.sin(2 * coords[:, 0] + 3 * coords[:, 1]), coords[:, 1] ** 2], 1)


def measured(area: Area, rows: int = 7) -> torch.Tensor:
    out = torch.full((area.size, 2), torch.nan)
    for part, values in area.chunks(wave, rows):
        out[part] = values
    return out


def test_a_pixel_is_the_mean_of_the_finer_pixels_in_it() -> None:
    area = Area((3, 4), 5)
    assert isinstance(area, Measurement) and area.size == 12
    dense = wave(coordinate_grid((15, 20))).numpy().reshape(3, 5, 4, 5, 2).mean((1, 3)).reshape(12, 2)
    for rows in (1, 60, 10_000):
        np.testing.assert_allclose(measured(area, rows).numpy(), dense, atol=1e-6)


def test_many_nodes_come_near_the_integral() -> None:
    (_, square) = measured(Area((1, 2), 64)).T
    # The mean of x^2 over [-1, 0] and [0, 1] is 1/3.
    assert square.tolist() == pytest.approx([1 / 3, 1 / 3], abs=1e-4)


@pytest.mark.parametrize("shape", [(6, 8), (7, 5)])
def test_the_first_block_has_the_mean_of_its_pixels(shape: tuple[int, int]) -> None:
    image = torch.rand(*shape, 3, dtype=torch.float64)
    means = area_means(image, 2)
    assert means[0, 0].tolist() == pytest.approx(image[:2, :2].reshape(4, 3).mean(0).tolist())


def test_a_block_at_the_border_has_the_mean_of_what_is_in_it() -> None:
    means = area_means(torch.arange(15.0).reshape(3, 5, 1), 2)
    assert means[..., 0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
