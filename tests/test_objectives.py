import math
from typing import Any

import pytest
import torch

from nid_dist.code import Code
from nid_dist.objectives import (
    data_loss,
    importance,
    order_weights,
    ordered_sparsity,
    sparsity,
    squared_variation,
)


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


def test_welsch_forgets_outliers() -> None:
    """s (1 - exp(-r^2 / (2 s^2))), r the root mean square over channels; by hand."""
    target = torch.zeros(1, 3, 2)
    estimate = torch.tensor([[[0.3, 0.4], [0.0, 0.0], [30.0, 40.0]]])
    expected = 0.5 * ((1 - math.exp(-0.125 / 0.5)) + 0 + 1) / 3
    assert data_loss(estimate, target, "welsch", 0.5).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["l2", "l1", "huber", "welsch"])
def test_what_is_missing_counts_nothing(kind: Any) -> None:
    estimate = torch.tensor([[[0.3], [0.1]]], requires_grad=True)
    target, weights = torch.tensor([[[0.0], [float("nan")]]]), torch.tensor([[1.0, 0.0]])
    loss = data_loss(estimate, target, kind, 0.5, weights)
    alone = data_loss(estimate[:, :1], target[:, :1], kind, 0.5)
    assert loss.item() == pytest.approx(alone.item() / 2)
    (gradient,) = torch.autograd.grad(loss, estimate)
    assert gradient[0, 0] != 0 and gradient[0, 1] == 0


@pytest.mark.parametrize("experts", [1, 2, 8, 1000, 65536])
def test_order_weights_are_finite_and_mean_the_same_for_any_n(experts: int) -> None:
    for order in (0.0, 5.0, 500.0):
        weights = order_weights(experts, order, torch.zeros(1))
        assert weights.isfinite().all() and weights.mean().item() == pytest.approx(1, rel=1e-4)
        assert (weights.diff() >= 0).all()
    ratio = order_weights(experts, 5.0, torch.zeros(1, dtype=torch.float64))
    assert (ratio[-1] / ratio[0]).item() == pytest.approx(math.exp(5) if experts > 1 else 1)


def test_ordered_sparsity_by_hand() -> None:
    """n = 3, beta = ln 4: weights 1, 2, 4 divided by 7/3."""
    code = Code(torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.zeros(2, 1), torch.tensor([[0, 2], [1, 0]]))
    order = math.log(4)
    assert ordered_sparsity(code, 3, order).item() == pytest.approx((1 + 8 + 1 + 0) * 3 / 7 / 2)
    scales = torch.tensor([1.0, 10.0, 0.5])
    assert ordered_sparsity(code, 3, order, scales).item() == pytest.approx((1 + 4 + 10) * 3 / 7 / 2)
    dense = Code(code.dense(3), code.bias)
    torch.testing.assert_close(ordered_sparsity(dense, 3, order), ordered_sparsity(code, 3, order))
