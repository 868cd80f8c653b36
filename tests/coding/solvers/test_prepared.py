import pytest
import torch

from nid_dist.coding.solvers import LastPrepared, PreparedDictionary, reduce_problem, solve_omp, solve_ridge

SUPPORT = torch.tensor([[0, 3, 7], [1, 2, 19], [5, 6, 4], [11, 10, 18]])


@pytest.mark.parametrize("numbers", [2**22, 0], ids=["impulses", "features"])
def test_it_reduces_like_a_pass_over_the_measurements(numbers, setting, make_mixing, monkeypatch):
    monkeypatch.setattr("nid_dist.coding.solvers.prepared._FLOATS", numbers)
    for measurement in (setting.measurement, make_mixing()):
        if numbers == 0 and not (setting.dictionary.linear and measurement.size > setting.dictionary.trunk.out_dim):
            continue
        prepared = PreparedDictionary(setting.dictionary, measurement)
        for signals in (setting.signals, 2 - setting.signals[:3]):
            found = prepared.problem(signals)
            expected = reduce_problem(setting.dictionary, measurement, signals)
            torch.testing.assert_close(found.gram, expected.atoms @ expected.atoms.t())
            torch.testing.assert_close(found.targets @ found.atoms.t(), expected.targets @ expected.atoms.t())
            torch.testing.assert_close(found.residual_floor, expected.residual_floor, rtol=1e-6, atol=1e-9)
            for solve in (lambda p: solve_ridge(p, SUPPORT[: len(p.targets)]), lambda p: solve_omp(p, 4)):
                torch.testing.assert_close(solve(found).code.values, solve(expected).code.values)
                torch.testing.assert_close(solve(found).code.bias, solve(expected).code.bias)
                torch.testing.assert_close(solve(found).residual, solve(expected).residual)


def test_long_signals_are_reduced_in_passes(setting, monkeypatch):
    monkeypatch.setattr("nid_dist.coding.solvers.prepared._FLOATS", 79**2)
    monkeypatch.setattr("nid_dist.coding.solvers.prepared._FEATURES", 100)
    found = PreparedDictionary(setting.dictionary, setting.measurement).problem(setting.signals)
    expected = reduce_problem(setting.dictionary, setting.measurement, setting.signals)
    assert found.gram is None
    torch.testing.assert_close(found.targets, expected.targets)


def test_the_last_lattice_is_kept(setting):
    last, coords = LastPrepared(setting.dictionary), torch.rand(5, setting.dictionary.in_dim).double()
    first = last.at(coords)
    assert last.at(coords.clone()) is first
    assert last.at(coords[:4]) is not first and last.at(coords) is not first
