import pytest
import torch

from nid_dist.coordinate_grid import coordinate_grid


def test_two_by_three_by_hand() -> None:
    third = 2 / 3
    expected = [[-0.5, -third], [-0.5, 0], [-0.5, third], [0.5, -third], [0.5, 0], [0.5, third]]
    torch.testing.assert_close(coordinate_grid((2, 3)), torch.tensor(expected))


@pytest.mark.parametrize("shape", [(1,), (7,), (4, 5), (2, 3, 4)])
def test_every_pixel_centre_in_ij_order(shape: tuple[int, ...]) -> None:
    coords = coordinate_grid(shape)
    assert coords.dtype == torch.float32
    position = 0
    for index in torch.cartesian_prod(*[torch.arange(p) for p in shape]).reshape(-1, len(shape)).tolist():
        for axis, i in enumerate(index):
            assert coords[position, axis].item() == pytest.approx(-1 + (2 * i + 1) / shape[axis], abs=1e-7)
        position += 1
    assert position == len(coords)


def test_one_pixel_lies_at_the_origin() -> None:
    assert coordinate_grid((1, 1)).tolist() == [[0.0, 0.0]]
