import pytest
import torch

from nid_dist.errors import UserError
from nid_dist.merging import product_is_cheaper, weighted_sum

INDICES = torch.tensor([[3, 0], [1, 2]])


@pytest.mark.parametrize("way", ["auto", "product", "gather"])
@pytest.mark.parametrize("experts", [24, 25], ids=["product is cheaper", "gather is cheaper"])
def test_every_way_gives_the_sum_and_the_type_that_all_ranks_expect(way: str, experts: int) -> None:
    values, rows = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.randn(experts, 5)
    expected = torch.stack([2 * rows[3] - rows[0], 0.5 * rows[1]])
    assert product_is_cheaper(2, experts) == (experts == 24)
    torch.testing.assert_close(weighted_sum(INDICES, values, rows, way), expected)
    with torch.autocast("cpu", torch.bfloat16):
        total = weighted_sum(INDICES, values, rows, way)
    assert total.dtype == (torch.bfloat16 if experts == 24 else torch.float32)
    torch.testing.assert_close(total.float(), expected, rtol=2e-2, atol=2e-2)


def test_the_kernel_is_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(UserError, match="dictionary.merge: found kernel, .* on cpu"):
        weighted_sum(INDICES, torch.ones(2, 2), torch.ones(4, 5), "kernel")
