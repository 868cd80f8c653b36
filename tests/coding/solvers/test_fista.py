import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from nid_dist.coding.solvers import reduce_problem, solve_fista, solve_ridge
from nid_dist.coding.solvers.problem import Problem


def centred(setting) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = (x.reshape(len(x), -1, 2) for x in (setting.columns().T, setting.rows()))
    return tuple((x - x.mean(1, keepdims=True)).reshape(len(x), -1) for x in (columns, rows))


@pytest.mark.parametrize("penalty", [0.5, 0.1, 0.02])
def test_the_minimum_is_scikit_learns(setting, penalty):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_fista(problem, 20, penalty=penalty, iterations=40000, tolerance=1e-9, debias=False)
    atoms, rows = centred(setting)
    norms = np.linalg.norm(atoms, axis=1)
    unit = (atoms / norms[:, None]).T
    for i in range(4):
        # Lasso divides the square by twice the number of samples.
        strength = penalty * np.abs(unit.T @ rows[i]).max() / len(rows[i])
        lasso = Lasso(strength, fit_intercept=False, tol=1e-12, max_iter=10**6).fit(unit, rows[i])
        found = solution.code.dense(20)[i].numpy() * norms
        objective = [
            0.5 * ((unit @ x - rows[i]) ** 2).sum() + len(rows[i]) * strength * np.abs(x).sum()
            for x in (found, lasso.coef_)
        ]
        assert objective[0] == pytest.approx(objective[1], rel=1e-6)
        np.testing.assert_allclose(unit @ found, unit @ lasso.coef_, atol=2e-3)


def test_the_refit_is_ridge_on_what_is_kept(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_fista(problem, 4, penalty=0.05, iterations=500)
    ridge = solve_ridge(problem, solution.code.indices)
    torch.testing.assert_close(solution.code.values, ridge.code.values)
    torch.testing.assert_close(solution.residual, ridge.residual)
    assert bool((solution.residual < setting.signals.var((1, 2), unbiased=False)).all())


def orthonormal(targets: list[list[float]]) -> Problem:
    n, t = len(targets[0]), len(targets)
    zeros = torch.zeros(n, 1), torch.zeros(t, 1), torch.zeros(t)
    return Problem(torch.eye(n), torch.tensor(targets), *zeros)


def test_orthonormal_atoms_are_soft_thresholded():
    # The threshold is a half of the largest, 2.
    solution = solve_fista(orthonormal([[4.0, -3.0, 1.0, 0.5]]), 4, penalty=0.5, debias=False, tolerance=1e-7)
    torch.testing.assert_close(solution.code.dense(4), torch.tensor([[2.0, -1.0, 0.0, 0.0]]), rtol=1e-4, atol=1e-4)


def test_what_the_penalty_made_zero_stays_zero():
    solution = solve_fista(orthonormal([[4.0, -3.0, 1.0, 0.5]]), 4, penalty=0.5, ridge=0.0)
    torch.testing.assert_close(solution.code.dense(4), torch.tensor([[4.0, -3.0, 0.0, 0.0]]))


def test_no_more_than_k(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    for k in (1, 5, 50):
        assert solve_fista(problem, k).code.values.shape == (4, min(k, 20))


def test_signals_in_parts_and_none(setting, monkeypatch):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    # Each signal alone, as each stops when it has settled.
    alone = torch.cat([solve_fista(problem.signals(slice(i, i + 1)), 5).code.dense(20) for i in range(4)])
    monkeypatch.setattr("nid_dist.coding.solvers.fista._SIGNALS", 20)
    torch.testing.assert_close(solve_fista(problem, 5).code.dense(20), alone)
    assert solve_fista(problem.signals(slice(0, 0)), 5).code.values.shape == (0, 5)


def test_the_objective_falls_within_the_last_stage_and_is_logged(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    log = solve_fista(problem, 5, stages=3, penalty=0.01).log
    assert [round(entry["penalty"], 6) for entry in log] == [0.215443, 0.046416, 0.01]
    assert log[0]["objective"] > log[-1]["objective"]
