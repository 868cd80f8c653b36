import pytest
import torch

from nid_dist.coding.gates.layers import CodeHead, convolution


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "expected"), [(3, 2, 5, 3), (3, 2, 1, 1), (5, 1, 7, 7), (1, 1, 4, 4)]
)
def test_convolution_sizes(kernel, stride, size, expected):
    layer = convolution(2, 6, kernel, torch.Generator().manual_seed(0), stride=stride)
    assert layer(torch.rand(3, 2, size, size)).shape == (3, 6, expected, expected)


def test_convolution_has_he_values():
    layer = convolution(32, 64, 5, torch.Generator().manual_seed(0))
    # 2 / fan-in with a fan-in of 32 * 25.
    assert layer.weight.var().item() == pytest.approx(2 / 800, rel=0.03)


@pytest.mark.parametrize("rank", [None, 200, 400])
def test_head_starts_with_unit_codes_and_constant_biases(rank):
    head = CodeHead(400, 900, 3, torch.Generator().manual_seed(0), level=5.0, bias=0.25, rank=rank)
    output = head(5 * torch.randn(50, 400, generator=torch.Generator().manual_seed(100)))
    assert output.logits.shape == (50, 900)
    torch.testing.assert_close(output.logits.norm(dim=1), torch.ones(50), atol=0.2, rtol=0)
    assert torch.equal(output.bias, torch.full((50, 3), 0.25))


def test_logits_of_a_low_rank_are_linear_in_so_many_numbers():
    head = CodeHead(40, 900, 3, torch.Generator().manual_seed(0), rank=7)
    features = torch.randn(50, 40, generator=torch.Generator().manual_seed(100))
    assert torch.linalg.matrix_rank(head(features).logits) == 7
    assert sum(p.numel() for p in head.parameters()) == 7 * 41 + 8 * 903
    # A rank that is none leaves the layer, its first values and its names as they were.
    full = [CodeHead(40, 900, 3, torch.Generator().manual_seed(0), rank=rank).state_dict() for rank in (None, 40)]
    assert list(full[0]) == list(full[1]) == ["linear.weight", "linear.bias"]
    assert torch.equal(full[0]["linear.weight"], full[1]["linear.weight"])
