from dataclasses import replace

import numpy as np
import pytest
import torch

from nid_dist.coding.solvers import reduce_problem, solve_ridge
from nid_dist.coding.solvers import ridge as module
from nid_dist.coding.solvers.problem import Problem
from nid_dist.errors import UserError

SUPPORT = torch.tensor([[0, 3, 7], [1, 2, 19], [5, 6, 4], [11, 10, 18]])


@pytest.mark.parametrize("weight", [0.0, 1e-6, 0.1, 10.0])
@pytest.mark.parametrize("at_a_time", [1, 10**9])
def test_against_least_squares_with_a_column_per_bias(setting, monkeypatch, weight, at_a_time):
    monkeypatch.setattr(module, "_GATHER_FLOATS", at_a_time)
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_ridge(problem, SUPPORT, weight)
    columns, size = setting.columns(), setting.measurement.size
    # The penalty is relative to the atoms' mean energy about their means; the bias has none.
    per_channel = columns.reshape(size, 2, -1)
    energy = ((per_channel - per_channel.mean(0)) ** 2).sum((0, 1)).mean() / size
    for i, row in enumerate(setting.rows()):
        matrix = np.hstack([columns[:, SUPPORT[i]], setting.bias_columns()]) * size**-0.5
        penalty = np.hstack([np.sqrt(weight * energy) * np.eye(3), np.zeros((3, 2))])
        right = np.concatenate([row * size**-0.5, np.zeros(3)])
        expected = np.linalg.lstsq(np.vstack([matrix, penalty]), right, rcond=None)[0]
        np.testing.assert_allclose(solution.code.values[i], expected[:3], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(solution.code.bias[i], expected[3:], rtol=1e-8, atol=1e-10)
        error = np.hstack([columns[:, SUPPORT[i]], setting.bias_columns()]) @ expected - row
        assert solution.residual[i].item() == pytest.approx((error**2).mean(), rel=1e-8)


def made(atoms: torch.Tensor, targets: torch.Tensor) -> Problem:
    n, t = len(atoms), len(targets)
    return Problem(atoms, targets, atoms.new_zeros(n, 1), atoms.new_zeros(t, 1), atoms.new_zeros(t))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gram", [False, True])
def test_dependent_atoms_without_ridge_name_the_signal(monkeypatch, dtype, gram):
    atoms = torch.randn(6, 5, dtype=dtype)
    atoms[4] = atoms[1] * 0.3
    atoms[5] = 0
    problem = made(atoms, torch.randn(3, 5, dtype=dtype))
    problem = replace(problem, gram=atoms @ atoms.t() if gram else None)
    for at_a_time in (1, 10**9):
        monkeypatch.setattr(module, "_GATHER_FLOATS", at_a_time)
        for indices, signal in (([[0, 1], [1, 4], [2, 3]], 1), ([[0, 1], [1, 2], [0, 5]], 2)):
            with pytest.raises(UserError, match=rf"signal {signal}: found a singular system .* raise coding\.ridge"):
                solve_ridge(problem, torch.tensor(indices), 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_atoms_share_a_coefficient_with_ridge(dtype):
    atoms = torch.eye(4, dtype=dtype)[[0, 0, 1]]
    values = solve_ridge(
        made(atoms, torch.tensor([[2.0, 3.0, 0, 0]], dtype=dtype)), torch.tensor([[0, 1, 2]])
    ).code.values
    torch.testing.assert_close(values, torch.tensor([[1.0, 1.0, 3.0]], dtype=dtype), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4])
def test_very_coherent_atoms_in_float32(spread):
    # 200 nearly equal atoms: in float32 the rounding of their inner products, 200 * 6e-8, exceeds a ridge of 1e-6.
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(1, 300, generator=generator) + spread * torch.randn(200, 300, generator=generator)
    targets = torch.randn(3, 300, generator=generator)
    solution = solve_ridge(made(atoms, targets), torch.arange(200).expand(3, 200), 1e-6)
    exact = solve_ridge(made(atoms.double(), targets.double()), torch.arange(200).expand(3, 200), 1e-6)
    torch.testing.assert_close(solution.residual.double(), exact.residual, rtol=0.02, atol=0)


def test_atoms_that_are_all_flat_get_zeros():
    problem = made(torch.zeros(4, 0), torch.zeros(2, 0))
    solution = solve_ridge(problem, torch.tensor([[0, 1], [2, 3]]))
    assert not solution.code.values.any() and not solution.residual.any()


def test_no_signals():
    problem = made(torch.eye(4), torch.zeros(0, 4))
    assert solve_ridge(problem, torch.zeros(0, 2, dtype=torch.long)).code.values.shape == (0, 2)
