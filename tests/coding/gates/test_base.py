import pytest
import torch

from nid_dist.coding.gates.base import as_image
from nid_dist.errors import UserError


def test_rows_come_first():
    # Two rows of three columns, two channels: coordinate c is (c // 3, c % 3).
    values = torch.arange(12.0).reshape(1, 6, 2)
    expected = torch.tensor([[[[0.0, 2, 4], [6, 8, 10]], [[1.0, 3, 5], [7, 9, 11]]]])
    assert torch.equal(as_image(values, (2, 3)), expected)


def test_another_grid_is_refused():
    with pytest.raises(UserError, match=r"found signals of 6 coordinates, expected the 2 x 4 grid"):
        as_image(torch.zeros(1, 6, 1), (2, 4))
