import numpy as np
import pytest
import torch

from nid_dist.coding.solvers import problem as module
from nid_dist.coding.solvers import reduce_problem, solve_adam, solve_ridge, statistics
from nid_dist.coding.solvers.solution import best_bias, residual
from tests.dictionary import oracle

SUPPORT = torch.tensor([[0, 3, 7], [1, 2, 19], [5, 6, 4], [11, 10, 18]])
WAYS = ["_through_atoms", "_through_features", "_through_gram"]


def dense(setting, measurement, j: int) -> np.ndarray:
    """R b_j as a column over measurements and channels."""
    values = oracle.atom(setting.dictionary, j, measurement.coords).detach()
    return (measurement.matrix @ values).flatten().numpy()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("weighted", [False, True])
def test_any_measurement_and_any_weights_are_plain_least_squares(setting, make_mixing, way, weighted):
    if way == "_through_features" and not setting.dictionary.linear:
        pytest.skip("features are those of linear heads")
    measurement = make_mixing()
    generator = torch.Generator().manual_seed(5)
    weights = torch.rand(40, generator=generator, dtype=torch.float64) if weighted else None
    if weights is not None:
        weights[3:9] = 0
    arguments = (setting.dictionary, *([setting.dictionary.experts] if way == "_through_features" else []))
    with torch.no_grad():
        problem = getattr(module, way)(*arguments, measurement, setting.signals, weights)
    solution = solve_ridge(problem, SUPPORT, 0.0)
    root = np.ones(80) if weights is None else np.repeat(weights.sqrt().numpy(), 2)
    ones = measurement.matrix.sum(1).numpy()
    bias = np.kron(ones[:, None], np.eye(2))
    for t in range(4):
        columns = np.stack([dense(setting, measurement, j) for j in SUPPORT[t].tolist()], 1)
        columns = np.concatenate([columns, bias], 1) * root[:, None]
        right = setting.signals[t].flatten().numpy() * root
        expected, *_ = np.linalg.lstsq(columns, right, rcond=None)
        np.testing.assert_allclose(solution.code.values[t], expected[:3], rtol=1e-6)
        np.testing.assert_allclose(solution.code.bias[t], expected[3:], rtol=1e-6)
        error = ((columns @ expected - right) ** 2).sum() / (root[::2] ** 2).sum() / 2
        assert solution.residual[t].item() == pytest.approx(error, rel=1e-7)


def test_gradient_steps_know_the_constant(setting, make_mixing):
    # Started at the optimum of the support, nothing is left to descend.
    problem = reduce_problem(setting.dictionary, make_mixing(), setting.signals)
    best = solve_ridge(problem, SUPPORT, 0.0)
    after = solve_adam(problem, best.code, 5)
    torch.testing.assert_close(after.code.values, best.code.values)
    torch.testing.assert_close(after.code.bias, best.code.bias)


def test_a_wrong_bias_costs_the_square_of_what_the_constant_measures(setting, make_mixing):
    measurement = make_mixing()
    problem = reduce_problem(setting.dictionary, measurement, setting.signals)
    best = solve_ridge(problem, SUPPORT, 0.0)
    torch.testing.assert_close(best_bias(problem, SUPPORT, best.code.values), best.code.bias)
    worse = residual(problem, type(best.code)(best.code.values, best.code.bias + 0.5, SUPPORT))
    # Mean over 40 measurements of (0.5 * R 1)^2.
    expected = 0.25 * measurement.matrix.sum(1).square().mean()
    torch.testing.assert_close(worse - best.residual, expected.expand(4), rtol=1e-9, atol=1e-9)


def test_no_weight_at_all_is_no_measurement(setting):
    problem = reduce_problem(
        setting.dictionary, setting.measurement, setting.signals, weights=torch.zeros(40, dtype=torch.float64)
    )
    solution = solve_ridge(problem, SUPPORT)
    assert not solution.code.values.any() and not solution.code.bias.any() and not solution.residual.any()


def test_equal_weights_are_no_weights(setting):
    given = reduce_problem(
        setting.dictionary, setting.measurement, setting.signals, weights=torch.full((40,), 3.0, dtype=torch.float64)
    )
    plain = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    for one, other in ((solve_ridge(p, SUPPORT) for p in (given, plain)),):
        torch.testing.assert_close(one.code.values, other.code.values)
        torch.testing.assert_close(one.residual, other.residual)


def test_what_the_constant_measures_in_passes(make_mixing, monkeypatch):
    measurement = make_mixing()
    monkeypatch.setattr(statistics, "FLOATS", 7)
    found = statistics.constant_measured(measurement, measurement.matrix)
    torch.testing.assert_close(found, measurement.matrix.sum(1))
