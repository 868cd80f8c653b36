import pytest
import torch
from torch import Tensor

from nid_dist.merging import gather
from nid_dist.merging.gather import gathered_sum


def by_product(indices: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    return torch.zeros(len(values), len(rows), dtype=rows.dtype).scatter_add(1, indices, values) @ rows


@pytest.mark.parametrize("floats", [1, 2**20], ids=["signal by signal", "at once"])
@pytest.mark.parametrize(("signals", "support", "experts"), [(0, 3, 4), (1, 1, 1), (5, 4, 9), (3, 9, 9), (4, 0, 3)])
def test_values_and_gradients_are_those_of_the_product(
    monkeypatch: pytest.MonkeyPatch, floats: int, signals: int, support: int, experts: int
) -> None:
    monkeypatch.setattr(gather, "_FLOATS", floats)
    values = torch.randn(signals, support, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(experts, 7, dtype=torch.float64, requires_grad=True)
    # Repeated within a signal, too: what fills a code up stands at row 0.
    indices = torch.randint(experts, (signals, support))
    weights = torch.randn(signals, 7, dtype=torch.float64)
    found, expected = (merge(indices, values, rows) for merge in (gathered_sum, by_product))
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad((total * weights).sum(), [values, rows]) for total in (found, expected)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("learning", ["values", "rows"])
def test_one_of_both_may_ask_for_a_gradient(learning: str) -> None:
    values, rows = torch.randn(3, 2, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    indices = torch.tensor([[0, 4], [1, 2], [4, 3]])
    leaf = (values if learning == "values" else rows).requires_grad_()
    assert torch.autograd.gradcheck(lambda _: gathered_sum(indices, values, rows), (leaf,))


def test_a_gather_is_not_shortened_by_autocast() -> None:
    values, rows = torch.randn(3, 2), torch.randn(5, 4, requires_grad=True)
    indices = torch.tensor([[0, 4], [1, 2], [4, 3]])
    with torch.autocast("cpu", torch.bfloat16):
        total = gathered_sum(indices, values, rows)
    torch.testing.assert_close(total, by_product(indices, values, rows), rtol=1e-6, atol=1e-6)


def test_gradients_of_few_bits_are_added_up_in_more() -> None:
    # 1 + 512 * 2^-9 = 2; of eight bits the sum would stay 1.
    values = torch.tensor([[1.0]] + [[2.0**-9]] * 512, dtype=torch.bfloat16)
    rows = torch.ones(1, 1, dtype=torch.bfloat16, requires_grad=True)
    gathered_sum(torch.zeros(513, 1, dtype=torch.long), values, rows).sum().backward()
    assert rows.grad.dtype == torch.bfloat16 and rows.grad.item() == 2
