import math

import pytest
import torch

from nid_dist.coding.code import Code
from nid_dist.objectives import data_loss, importance, sparsity, squared_variation


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Errors 0, 1, -2, 0.1; Huber with delta 0.5: 0, 0.5 * 0.75, 0.5 * 1.75, 0.005.
        ("l2", (0 + 1 + 4 + 0.01) / 4),
        ("l1", (0 + 1 + 2 + 0.1) / 4),
        ("huber", (0 + 0.375 + 0.875 + 0.005) / 4),
    ],
)
def test_data_loss_by_hand(kind, expected):
    target = torch.zeros(2, 1, 2)
    estimate = torch.tensor([[[0.0, 1.0]], [[-2.0, 0.1]]])
    assert data_loss(estimate, target, kind, 0.5).item() == pytest.approx(expected)


def sparse() -> Code:
    values = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    return Code(values, torch.zeros(2, 1), torch.tensor([[3, 0], [0, 1]]))


@pytest.mark.parametrize(("kind", "expected"), [("absolute", [1.5, 3, 0, 2]), ("signed", [-0.5, 3, 0, 2])])
def test_importance_of_sparse_and_dense_codes(kind, expected):
    code = sparse()
    assert importance(code, 4, kind).tolist() == expected
    assert importance(Code(code.dense(4), code.bias), 4, kind).tolist() == expected
    importance(code, 4, kind)[0].backward()
    assert code.values.grad.tolist() == ([[0, -1], [1, 0]] if kind == "absolute" else [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0.0),
        ([4.0, 0.0, 0.0, 0.0], 3.0),  # variance 3, mean 1
        ([1.0, 2.0, 3.0], (2 / 3) / 4),
        ([-1.0, -2.0, -3.0], (2 / 3) / 4),
    ],
)
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e6])
def test_squared_variation_by_hand_at_any_scale(usage, expected, scale):
    assert squared_variation(scale * torch.tensor(usage)).item() == pytest.approx(expected, abs=1e-6, rel=2e-2)


def test_signed_usage_that_cancels_explodes_but_stays_finite():
    assert squared_variation(torch.tensor([1.0, -1.0 + 1e-3])).item() == pytest.approx((1 / 5e-4) ** 2, rel=0.01)
    usage = torch.tensor([1.0, -1.0], requires_grad=True)
    value = squared_variation(usage)
    value.backward()
    assert value.item() == pytest.approx(1e10, rel=1e-3)
    assert torch.isfinite(usage.grad).all()


def test_no_usage_at_all():
    usage = torch.zeros(4, requires_grad=True)
    value = squared_variation(usage)
    value.backward()
    assert value.item() == 0 and not usage.grad.any()


def test_gradient_of_the_squared_variation():
    # d/da_j Var/mean^2 = 2 (a_j - mean) / (n mean^2) - 2 Var / (n mean^3), for (1, 2, 6): mean 3, Var 14/3.
    usage = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64, requires_grad=True)
    squared_variation(usage).backward()
    expected = [2 * (a - 3) / 27 - 2 * (14 / 3) / 81 for a in (1, 2, 6)]
    assert usage.grad.tolist() == pytest.approx(expected, rel=1e-6)


def test_sparsity_by_hand():
    assert sparsity(sparse()).item() == pytest.approx(6.5 / 4)
    assert math.isclose(sparsity(Code(torch.tensor([[-3.0, 0.0, 0.0]]), torch.zeros(1, 1))).item(), 1.0)
