from itertools import accumulate

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from nid_dist.coding.solvers import omp as module
from nid_dist.coding.solvers import pursuit, reduce_problem, solve_omp, solve_ridge
from nid_dist.coding.solvers.growing import GrowingRefits
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.ridge import solve_again
from nid_dist.errors import UserError


@pytest.mark.parametrize("k", [1, 4, 8])
@pytest.mark.parametrize("gram", [False, True])
def test_one_atom_a_block_is_scikit_learns_pursuit(setting, monkeypatch, k, gram):
    monkeypatch.setattr(module, "_gram_is_cheaper", lambda *_: gram)
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_omp(problem, k, ridge=0.0)
    columns, rows = (x.reshape(len(x), -1, 2) for x in (setting.columns().T, setting.rows()))
    columns, rows = ((x - x.mean(1, keepdims=True)).reshape(len(x), -1) for x in (columns, rows))
    norms = np.linalg.norm(columns, axis=1)
    for i in range(4):
        expected = orthogonal_mp(columns.T / norms, rows[i], n_nonzero_coefs=k) / norms
        assert set(solution.code.indices[i].tolist()) == set(np.flatnonzero(expected))
        np.testing.assert_allclose(solution.code.dense(20)[i], expected, rtol=1e-7, atol=1e-9)
        error = columns.T @ expected - rows[i]
        assert solution.residual[i].item() == pytest.approx((error**2).mean(), rel=1e-7)


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 100, None])
@pytest.mark.parametrize("gram", [False, True])
def test_blocks_by_plain_loops(setting, monkeypatch, blocks, gram):
    monkeypatch.setattr(module, "_gram_is_cheaper", lambda *_: gram)
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_omp(problem, 7, blocks)
    rounds = min(blocks or 7, 7)
    sizes = [len(part) for part in np.array_split(np.arange(7), rounds)]
    atoms, targets = problem.atoms.numpy(), problem.targets.numpy()
    for i in range(4):
        chosen, rest = [], targets[i]
        for size in sizes:
            score = np.abs(atoms @ rest) / np.linalg.norm(atoms, axis=1)
            score[chosen] = -1
            chosen += np.argsort(-score)[:size].tolist()
            system = atoms[chosen] @ atoms[chosen].T + 1e-5 * (atoms**2).sum(1).mean() * np.eye(len(chosen))
            values = np.linalg.solve(system, atoms[chosen] @ targets[i])
            rest = targets[i] - values @ atoms[chosen]
        expected = np.zeros(20)
        expected[chosen] = values
        np.testing.assert_allclose(solution.code.dense(20)[i], expected, rtol=1e-7, atol=1e-9)


def orthonormal(targets: torch.Tensor) -> Problem:
    n, t = targets.shape[1], len(targets)
    zeros = torch.zeros(n + 1, 1).double(), torch.zeros(t, 1).double(), torch.zeros(t).double()
    # The last atom vanishes on the measurements.
    return Problem(torch.cat([torch.eye(n), torch.zeros(1, n)]).double(), targets.double(), *zeros)


def test_the_tolerance_stops_when_all_signals_are_below_it():
    targets = torch.tensor([[0, 3, 0, -4, 0.0], [0, 0, 0, 0, 2]])
    solution = solve_omp(orthonormal(targets), 5, ridge=0.0, tolerance=1e-12)
    assert solution.code.indices.tolist()[0] == [3, 1]
    torch.testing.assert_close(solution.code.dense(6)[:, :5], targets.double())
    # After one atom, 9 and 0 are left over: a mean of 4.5.
    assert [(entry["support"], round(entry["residual"], 9)) for entry in solution.log] == [(1, 4.5), (2, 0)]


def test_each_signal_stops_at_the_tolerance(setting):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    for size in (3, 6):
        # Half of the signals reach it with so many atoms, the others later or never.
        tolerance = solve_omp(problem, size).residual.median().item() * 1.001
        solution = solve_omp(problem, 12, tolerance=tolerance)
        counts = []
        for i in range(4):
            one = problem.signals(slice(i, i + 1))
            count = next(k for k in range(1, 13) if k == 12 or bool(solve_omp(one, k).residual <= tolerance))
            expected = solve_omp(one, count).code.dense(20)
            torch.testing.assert_close(solution.code.rows(slice(i, i + 1)).dense(20), expected)
            counts.append(count)
        assert len(set(counts)) > 1
        assert (solution.code.values != 0).sum(1).tolist() == counts


def test_a_tolerance_that_is_not_reached_changes_nothing():
    targets = torch.tensor([[5.0, 4, 3, 2, 1]])
    solution = solve_omp(orthonormal(targets), 3, tolerance=1e-12)
    assert torch.equal(solution.code.values, solve_omp(orthonormal(targets), 3).code.values)
    assert [entry["support"] for entry in solution.log] == [1, 2, 3]


def test_a_vanishing_atom_is_chosen_last_and_gets_zero():
    solution = solve_omp(orthonormal(torch.tensor([[5.0, 4, 3, 2, 1]])), 6)
    assert solution.code.indices[0, -1] == 5
    assert solution.code.values[0, -1] == 0


@pytest.mark.parametrize("k", [20, 21, 1000])
def test_no_more_atoms_than_there_are(setting, k):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    solution = solve_omp(problem, k)
    assert solution.code.indices.sort(1).values.tolist() == [list(range(20))] * 4
    torch.testing.assert_close(solution.residual, solve_ridge(problem, torch.arange(20).expand(4, 20)).residual)


def test_dependent_atoms_without_ridge_are_refused(make_setting):
    # 20 atoms in 12 dimensions.
    setting = make_setting()
    with pytest.raises(UserError, match="signal 0: found a singular system"):
        solve_omp(reduce_problem(setting.dictionary, setting.measurement, setting.signals), 20, ridge=0.0)


@pytest.mark.parametrize("private", [1, 2])
def test_a_single_measurement_is_all_bias(make_setting, private):
    setting = make_setting(private, count=1)
    solution = solve_omp(reduce_problem(setting.dictionary, setting.measurement, setting.signals), 3)
    assert not solution.code.values.any()
    torch.testing.assert_close(solution.code.bias, setting.signals[:, 0])


def test_no_signals():
    assert solve_omp(orthonormal(torch.zeros(0, 4)), 2).code.values.shape == (0, 2)


@pytest.mark.parametrize("sizes", [[1] * 6, [2, 2, 2], [6], [1, 5]])
@pytest.mark.parametrize("each", [False, True])
def test_refits_that_grow_are_those_made_anew(sizes, each):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    added = torch.tensor([0.1, 0.2, 0.3]).double() if each else torch.tensor(0.1).double()
    growing, old = GrowingRefits(targets, 6, added), 0
    for total in accumulate(sizes):
        new, known = atoms[:, old:total], atoms[:, :total]
        right = torch.einsum("tkp,tp->tk", new, targets)
        found = growing.add(new @ atoms[:, :old].transpose(1, 2), new @ new.transpose(1, 2), right)
        system = known @ known.transpose(1, 2) + added.expand(3)[:, None, None] * torch.eye(total)
        expected = torch.linalg.solve(system, torch.einsum("tkp,tp->tk", known, targets))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        old = total
    assert not growing.rough.any()


@pytest.mark.parametrize("blocks", [None, 2])
@pytest.mark.parametrize("gram", [False, True])
def test_a_pivot_that_is_all_rounding_is_found_out_and_solved_anew(monkeypatch, blocks, gram):
    """Two atoms nearly the same: in float32 their inner products say nothing of the difference."""
    monkeypatch.setattr(module, "_gram_is_cheaper", lambda *_: gram)
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(6, 8, generator=generator)
    atoms[3] = atoms[0] + 1e-4 * atoms[1]
    # The first signal lies in the two atoms' plane.
    targets = torch.stack([atoms[0] + 3 * atoms[1], atoms[2] + 0.5 * atoms[5]])
    problem = Problem(atoms, targets, atoms.new_zeros(6, 1), atoms.new_zeros(2, 1), atoms.new_zeros(2))
    again = []

    def seen(values, failed, *given, **more):
        again.append(failed)
        return solve_again(values, failed, *given, **more)

    monkeypatch.setattr(pursuit, "solve_again", seen)
    for check in (True, False):
        found = solve_omp(problem, 6, blocks, 1e-9, check=check)
        assert bool(again[-1].any())
        rows, known = atoms.double()[found.code.indices], targets.double()
        system = rows @ rows.transpose(1, 2) + 1e-9 * problem.energy.double() * torch.eye(6)
        expected = torch.linalg.solve(system, torch.einsum("tkp,tp->tk", rows, known))
        torch.testing.assert_close(found.code.values[again[-1]].double(), expected[again[-1]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile", [1, 10, 40])
@pytest.mark.parametrize("blocks", [1, 3, None])
def test_tiles_of_atoms_change_nothing(setting, monkeypatch, tile, blocks):
    monkeypatch.setattr(module, "_gram_is_cheaper", lambda *_: False)
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    # A large ridge leaves those taken correlated with what is left.
    for k, ridge in ((7, 1e-5), (12, 1.0), (20, 1.0)):
        whole = solve_omp(problem, k, blocks, ridge)
        with monkeypatch.context() as patch:
            patch.setattr(pursuit, "_TILE", tile)
            parts = solve_omp(problem, k, blocks, ridge)
        assert torch.equal(parts.code.indices, whole.code.indices)
        torch.testing.assert_close(parts.code.values, whole.code.values)


def test_parts_of_the_signals_change_nothing(setting, monkeypatch):
    problem = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    whole = solve_omp(problem, 5, 3)
    monkeypatch.setattr(module, "_FLOATS", 1)
    parts = solve_omp(problem, 5, 3)
    assert torch.equal(parts.code.indices, whole.code.indices) and len(parts.log) == len(whole.log)
    torch.testing.assert_close(parts.code.values, whole.code.values)
