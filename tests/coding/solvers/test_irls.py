"""Robust fits against linear programming, a general minimiser, and least squares on what is left."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from nid_dist.coding.solvers import design as design_module
from nid_dist.coding.solvers import irls as module
from nid_dist.coding.solvers import reduce_problem, solve_irls, solve_omp, solve_ridge
from nid_dist.coding.solvers.design import MeasuredAtoms
from nid_dist.coding.solvers.irls import robust_weights
from nid_dist.coding.solvers.weighted import select_weighted
from nid_dist.measurements.sampling import Sampling

SUPPORT = torch.tensor([[0, 3, 7], [1, 2, 19], [5, 6, 4], [11, 10, 18]])


def columns(setting, t: int) -> np.ndarray:
    """Three atoms and a bias per channel, [C * d, 5]."""
    return np.concatenate([setting.columns()[:, SUPPORT[t]], setting.bias_columns()], 1)


def grey(make_setting, private: int = 1):
    """One channel: then |r| of a measurement is the absolute value itself."""
    setting = make_setting(private, d=1)
    return setting.dictionary, setting.measurement, setting.signals[..., :1]


def grey_columns(dictionary, measurement, t: int) -> np.ndarray:
    with torch.no_grad():
        atoms = dictionary.atoms(measurement.coords)[SUPPORT[t], :, 0].t()
    return np.concatenate([atoms.numpy(), np.ones((len(atoms), 1))], 1)


@pytest.mark.parametrize("private", [1, 2])
def test_absolute_values_are_those_of_linear_programming(make_setting, private):
    dictionary, measurement, signals = grey(make_setting, private)
    solution = solve_irls(
        dictionary, measurement, signals, 3, loss="l1", indices=SUPPORT, ridge=0.0, iterations=200, tolerance=1e-9
    )
    for t in range(4):
        matrix, y = grey_columns(dictionary, measurement, t), signals[t, :, 0].numpy()
        count = len(y)
        # min sum s with -s <= A x - y <= s.
        bound = np.block([[matrix, -np.eye(count)], [-matrix, -np.eye(count)]])
        program = linprog(
            np.r_[np.zeros(4), np.ones(count)], bound, np.r_[y, -y], bounds=[(None, None)] * 4 + [(0, None)] * count
        )
        found = np.r_[solution.code.values[t].numpy(), solution.code.bias[t].numpy()]
        assert np.abs(matrix @ found - y).sum() == pytest.approx(program.fun, rel=1e-4)


@pytest.mark.parametrize("loss", ["huber", "welsch", "tukey"])
def test_losses_are_at_their_minimum(make_setting, loss):
    dictionary, measurement, signals = grey(make_setting)
    scale = 0.2 if loss == "huber" else 1.0
    solution = solve_irls(
        dictionary,
        measurement,
        signals,
        3,
        loss=loss,
        scale=scale,
        indices=SUPPORT,
        ridge=0.0,
        iterations=500,
        tolerance=1e-10,
    )

    def total(x: np.ndarray, matrix: np.ndarray, y: np.ndarray) -> float:
        ratio = (matrix @ x - y) / scale
        if loss == "huber":
            return np.where(np.abs(ratio) <= 1, ratio**2 / 2, np.abs(ratio) - 0.5).sum()
        if loss == "welsch":
            return (1 - np.exp(-(ratio**2))).sum() / 2
        return (1 - np.clip(1 - ratio**2, 0, None) ** 3).sum() / 6

    for t in range(4):
        matrix, y = grey_columns(dictionary, measurement, t), signals[t, :, 0].numpy()
        found = np.r_[solution.code.values[t].numpy(), solution.code.bias[t].numpy()]
        best = minimize(total, found, (matrix, y), method="BFGS", options={"gtol": 1e-10})
        assert total(found, matrix, y) == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("loss", ["l1", "huber", "tukey", "welsch"])
def test_outliers_lose_their_weight(make_setting, loss):
    setting = make_setting()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        clean = torch.stack([sum(setting.dictionary.atoms(setting.measurement.coords)[s]) for s in SUPPORT]) + 0.3
    outliers = torch.rand(4, 40, generator=generator) < 0.2
    spoiled = torch.where(outliers[..., None], clean + 5.0, clean)
    spoiled += 1e-3 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    solution = solve_irls(setting.dictionary, setting.measurement, spoiled, 3, loss=loss, indices=SUPPORT)
    plain = solve_ridge(reduce_problem(setting.dictionary, setting.measurement, spoiled), SUPPORT)
    torch.testing.assert_close(solution.code.bias, torch.full((4, 2), 0.3).double(), rtol=0, atol=0.02)
    assert float((solution.code.bias - 0.3).abs().max()) < 0.1 * float((plain.code.bias - 0.3).abs().max())
    assert float(solution.weights[outliers].max()) < 0.05 < 0.3 < float(solution.weights[~outliers].mean())


def test_supports_are_found_beneath_outliers(make_setting):
    setting = make_setting(count=200)
    with torch.no_grad():
        clean = torch.stack([sum(setting.dictionary.atoms(setting.measurement.coords)[s]) for s in SUPPORT])
    spoiled = clean.clone()
    spoiled[:, ::10] += 10.0
    robust = solve_irls(setting.dictionary, setting.measurement, spoiled, 6, loss="l1", blocks=None)
    plain = solve_omp(reduce_problem(setting.dictionary, setting.measurement, spoiled), 6)
    with torch.no_grad():
        errors = [
            (setting.dictionary(s.code, setting.measurement.coords) - clean).abs().mean() for s in (robust, plain)
        ]
    assert float(errors[0]) < 0.1 * float(errors[1])
    assert not robust.weights[:, ::10].gt(0.2).any()


def test_masked_measurements_are_as_if_never_made(setting):
    known = torch.arange(40) % 3 > 0
    masks = known.double().expand(4, -1)
    signals = setting.signals.clone()
    signals[:, ~known] = 1e3
    solution = solve_irls(
        setting.dictionary, setting.measurement, signals, 3, loss="l2", weights=masks, indices=SUPPORT, ridge=0.0
    )
    fewer = reduce_problem(setting.dictionary, Sampling(setting.measurement.coords[known]), signals[:, known])
    expected = solve_ridge(fewer, SUPPORT, 0.0)
    torch.testing.assert_close(solution.code.values, expected.code.values)
    torch.testing.assert_close(solution.code.bias, expected.code.bias)
    torch.testing.assert_close(solution.residual, expected.residual)
    assert not solution.weights[:, ~known].any()


def test_a_signal_without_measurements_is_zero(setting):
    masks = torch.ones(4, 40, dtype=torch.float64)
    masks[1] = 0
    for loss in ("l1", "l2", "tukey"):
        solution = solve_irls(setting.dictionary, setting.measurement, setting.signals, 3, loss=loss, weights=masks)
        assert not solution.code.values[1].any() and not solution.code.bias[1].any()
        assert bool(solution.code.values.isfinite().all()) and solution.code.values[0].any()


@pytest.mark.parametrize("limit", [0, 2**26])
@pytest.mark.parametrize("blocks", [1, 3, None])
def test_supports_are_those_of_the_pursuit_under_the_weights(setting, make_mixing, monkeypatch, limit, blocks):
    monkeypatch.setattr(design_module, "KEPT", limit)
    generator = torch.Generator().manual_seed(6)
    weights = torch.rand(4, 40, generator=generator, dtype=torch.float64)
    for measurement in (setting.measurement, make_mixing()):
        atoms = MeasuredAtoms(setting.dictionary, measurement, setting.signals)
        found = select_weighted(atoms, setting.signals, weights, 5, blocks)
        for t in range(4):
            problem = reduce_problem(setting.dictionary, measurement, setting.signals[t : t + 1], weights=weights[t])
            expected = solve_omp(problem, 5, blocks).code.indices[0]
            assert set(found[t].tolist()) == set(expected.tolist())


def test_parts_and_recomputed_atoms_change_nothing(setting, monkeypatch):
    arguments = setting.dictionary, setting.measurement, setting.signals, 3
    expected = solve_irls(*arguments, loss="huber", scale=0.1, iterations=15, tolerance=0.0)
    monkeypatch.setattr(module, "KEPT", 1)
    monkeypatch.setattr(design_module, "KEPT", 1)
    monkeypatch.setattr("nid_dist.coding.solvers.problem.FLOATS", 50)
    found = solve_irls(*arguments, loss="huber", scale=0.1, iterations=15, tolerance=0.0)
    assert torch.equal(found.code.indices, expected.code.indices)
    torch.testing.assert_close(found.code.values, expected.code.values)


def test_no_signals(setting):
    solution = solve_irls(setting.dictionary, setting.measurement, setting.signals[:0], 3)
    assert solution.code.values.shape == (0, 3) and solution.weights.shape == (0, 40)


def test_weights_by_hand():
    size, one = torch.tensor([[0.0, 0.5, 1.0, 2.0]]).double(), torch.ones(1, 1).double()
    expected = {
        "l2": [1, 1, 1, 1],
        "l1": [1, 1, 1, 0.5],
        "huber": [1, 1, 1, 0.5],
        "tukey": [1, 0.5625, 0, 0],
        "welsch": [1, np.exp(-0.25), np.exp(-1), np.exp(-4)],
    }
    for loss, weights in expected.items():
        np.testing.assert_allclose(robust_weights(size, one, loss)[0], weights)
