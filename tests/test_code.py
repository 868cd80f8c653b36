import pytest
import torch

from nid_dist.code import Code


def sparse() -> Code:
    values = torch.tensor([[2.0, -1.0], [0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    return Code(values, torch.tensor([[1.0], [2.0]], dtype=torch.float64), torch.tensor([[3, 0], [1, 2]]))


def test_dense_by_hand():
    code = sparse()
    assert code.dense(4).tolist() == [[-1, 0, 0, 2], [0, 0.5, 0, 0]]
    code.dense(4).square().sum().backward()
    assert code.values.grad.tolist() == [[4, -2], [1, 0]]


def test_a_dense_code_is_its_values():
    values = torch.rand(2, 4)
    assert Code(values, torch.zeros(2, 1)).dense(4) is values


@pytest.mark.parametrize("experts", [8, 9], ids=["product", "gather"])
def test_weighted_sum_and_its_gradients(experts):
    # n <= 4k is a product with the dense code, more experts a gather: k = 2 here.
    code, rows = sparse(), torch.randn(experts, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([2 * rows[3] - rows[0], 0.5 * rows[1]])
    found = code.weighted_sum(rows)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(2, 5, dtype=torch.float64)
    slopes = torch.autograd.grad((found * weights).sum(), [code.values, rows])
    by_hand = torch.stack([weights[0] @ rows[[3, 0]].t(), weights[1] @ rows[[1, 2]].t()])
    torch.testing.assert_close(slopes[0], by_hand)
    torch.testing.assert_close(
        slopes[1][:4], torch.stack([-weights[0], 0.5 * weights[1], 0 * weights[0], 2 * weights[0]])
    )
    assert not slopes[1][4:].any()


def test_product_and_gather_are_equal():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    padded = torch.cat([rows, rows.new_zeros(40, 6)])
    indices = torch.stack([torch.randperm(40, generator=generator)[:10] for _ in range(5)])
    code = Code(torch.randn(5, 10, generator=generator, dtype=torch.float64), torch.zeros(5, 1).double(), indices)
    results = [code.weighted_sum(rows), code.weighted_sum(padded), Code(code.dense(40), code.bias).weighted_sum(rows)]
    gradients = [torch.autograd.grad(result.square().sum(), rows)[0] for result in results]
    for result, gradient in zip(results[1:], gradients[1:], strict=True):
        torch.testing.assert_close(result, results[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("experts", [8, 9], ids=["product", "gather"])
def test_weighted_sum_of_values_of_fewer_bits_and_of_no_signals(experts):
    code, rows = sparse(), torch.randn(experts, 5)
    rounded = Code(code.values.bfloat16(), code.bias.bfloat16(), code.indices)
    torch.testing.assert_close(rounded.weighted_sum(rows), torch.stack([2 * rows[3] - rows[0], 0.5 * rows[1]]))
    assert code.rows(slice(0, 0)).weighted_sum(rows).shape == (0, 5)


def test_rows_detach_and_concatenate():
    code = sparse()
    again = Code.concatenate([code.rows(slice(0, 1)), code.rows(slice(1, 2))])
    assert torch.equal(again.values, code.values) and torch.equal(again.bias, code.bias)
    assert torch.equal(again.indices, code.indices) and again.signals == 2
    assert code.values.requires_grad and not code.detach().values.requires_grad
    dense = Code(code.dense(4), code.bias)
    assert Code.concatenate([dense, dense]).indices is None
    with pytest.raises(ValueError, match="sparse and dense"):
        Code.concatenate([dense, Code(torch.zeros(1, 4).double(), torch.zeros(1, 1).double(), torch.arange(4)[None])])
